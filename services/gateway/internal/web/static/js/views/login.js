// The log-in form.

import { h, setText } from '../dom.js';
import { t, why } from '../i18n.js';

export class LoginForm {
  constructor({ app, canLogIn }) {
    this.app = app;
    this.canLogIn = canLogIn;
    this.#build();
  }

  #build() {
    this.name = h('input', { id: 'login-name', name: 'name', type: 'text', autocomplete: 'name', required: true, maxlength: '70', 'aria-describedby': 'login-problem' });
    this.email = h('input', { id: 'login-email', name: 'email', type: 'email', autocomplete: 'email', maxlength: '256', 'aria-describedby': 'login-problem' });
    this.button = h('button', { id: 'login-button', type: 'submit', class: 'button button-wide', disabled: !this.canLogIn }, t('loginButton'));
    this.problem = h('p', { id: 'login-problem', class: 'form-problem', role: 'alert' });
    // Our own words instead of the browser's bubbles, which screen readers often miss.
    this.root = h('form', { class: 'panel login', novalidate: true, 'aria-labelledby': 'login-title', on: { submit: (event) => { event.preventDefault(); this.#submit(); } } },
      h('h2', { id: 'login-title' }, t('loginTitle')),
      h('p', {}, t('loginLead')),
      this.canLogIn ? null : h('p', { class: 'notice-box', role: 'note', testid: 'no-token-url' }, t('noTokenUrl')),
      h('div', { class: 'field' }, h('label', { for: 'login-name' }, t('loginName')), this.name),
      h('div', { class: 'field' }, h('label', { for: 'login-email' }, t('loginEmail'), ' ', h('span', { class: 'optional' }, t('optional'))), this.email),
      this.button, this.problem);
  }

  focus() {
    this.root.scrollIntoView({ block: 'center' });
    this.name.focus({ preventScroll: true });
  }

  reset() {
    this.#busy(false);
    this.#tell('');
    this.email.value = '';
    this.name.value = '';
  }

  async #submit() {
    const name = this.name.value.trim();
    const email = this.email.value.trim();
    this.#mark(this.name, !name);
    this.#mark(this.email, Boolean(email) && !this.email.validity.valid);
    if (!name) { this.#tell(t('loginNameMissing')); this.name.focus(); return; }
    if (email && !this.email.validity.valid) { this.#tell(t('loginEmailWrong')); this.email.focus(); return; }
    this.#busy(true);
    this.#tell('');
    try {
      await this.app.login({ name, email });
    } catch (error) {
      this.#tell(t('loginFailed', { why: why(error.reason) }));
    } finally {
      this.#busy(false);
    }
  }

  #mark(input, wrong) {
    if (wrong) input.setAttribute('aria-invalid', 'true');
    else input.removeAttribute('aria-invalid');
  }

  #busy(busy) {
    this.button.disabled = busy || !this.canLogIn;
    setText(this.button, t(busy ? 'loginBusy' : 'loginButton'));
  }

  #tell(text) {
    setText(this.problem, text);
  }
}
