// The company's site around the chat: header, three pages, log-in. A change of
// page moves the focus to its heading, as a real page load would.

import { PRODUCTS, POPULAR } from '../catalog.js';
import { h, icon, setShown, setText } from '../dom.js';
import { t } from '../i18n.js';
import { LoginForm } from './login.js';

const PAGES = {
  home: { nav: 'navHome', title: 'titleHome' },
  tents: { nav: 'navTents', title: 'titleTents' },
  boots: { nav: 'navBoots', title: 'titleBoots' },
};

export class SiteView {
  constructor({ app, company, canLogIn }) {
    this.app = app;
    this.company = company;
    this.login = new LoginForm({ app, canLogIn });
    this.page = '';
    this.customer = null;
    this.#header();
    this.main = h('main', { id: 'main', class: 'main', tabindex: '-1' });
    this.root = h('div', { class: 'site' },
      h('a', { class: 'skip', href: '#main', on: { click: (event) => { event.preventDefault(); this.#focusHeading(); } } }, t('skip')),
      this.header, this.main,
      h('footer', { class: 'footer' }, h('p', {}, `${company}. ${t('footer')}`)));
    addEventListener('hashchange', () => this.#route(true));
  }

  start() {
    this.#route(false);
  }

  update(state, before) {
    const loggedIn = Boolean(state.customer);
    setShown(this.loginLink, !loggedIn);
    setShown(this.who, loggedIn);
    if (loggedIn) setText(this.name, t('greeting', { name: state.customer.name }));
    if (state.customer === before?.customer && before) return;
    this.customer = state.customer;
    if (this.page === 'home') this.#welcome(Boolean(before));
    else if (before?.customer && !state.customer) location.hash = '#/';
  }

  showLogin() {
    if (this.page === 'home') this.login.focus();
    else { this.loginWanted = true; location.hash = '#/'; }
  }

  setLoggingOut(busy) {
    this.logoutButton.disabled = busy;
    setText(this.logoutButton, t(busy ? 'loggingOut' : 'logOut'));
  }

  #header() {
    this.links = Object.entries(PAGES).map(([page, { nav }]) => h('a', {
      href: page === 'home' ? '#/' : `#/${page}`, testid: `page-${page}`, data: { page },
    }, t(nav)));
    this.loginLink = h('a', { class: 'account-link', href: '#/', on: { click: (event) => { event.preventDefault(); this.showLogin(); } } }, t('logIn'));
    this.name = h('span', { class: 'account-name', testid: 'customer-name' });
    this.logoutButton = h('button', { type: 'button', class: 'quiet-button', testid: 'logout', on: { click: () => this.app.logout() } }, t('logOut'));
    this.who = h('div', { class: 'account', hidden: true }, this.name, this.logoutButton);
    this.header = h('header', { class: 'header' },
      h('a', { class: 'brand', href: '#/' }, h('img', { src: '/static/img/mark.svg', alt: '', width: '32', height: '32' }), h('span', {}, this.company)),
      h('nav', { class: 'nav', 'aria-label': t('nav') }, this.links),
      h('div', { class: 'header-end' }, this.loginLink, this.who));
  }

  #route(focus) {
    const wanted = location.hash.replace(/^#\/?/, '');
    const page = wanted in PAGES ? wanted : 'home';
    if (page === this.page) return;
    this.page = page;
    for (const link of this.links) {
      if (link.dataset.page === page) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    this.main.replaceChildren(...(page === 'home' ? this.#home() : this.#shelf(page)));
    document.title = page === 'home' ? this.company : `${t(PAGES[page].title)} · ${this.company}`;
    this.app.visit(t(PAGES[page].nav));
    if (!focus) return;
    scrollTo(0, 0);
    if (this.loginWanted && page === 'home') this.login.focus();
    else this.#focusHeading();
    this.loginWanted = false;
  }

  #focusHeading() {
    (this.main.querySelector('h1') ?? this.main).focus();
  }

  #home() {
    this.aside = h('div', { class: 'hero-aside' });
    this.#welcome(false);
    const promises = [1, 2, 3].map((n) => h('li', {}, h('strong', {}, t(`promise${n}`)), h('span', {}, t(`promise${n}Text`))));
    return [
      h('section', { class: 'hero' },
        h('img', { class: 'hero-art', src: '/static/img/hero.svg', alt: '' }),
        h('div', { class: 'hero-inner' },
          h('div', { class: 'hero-words' },
            h('p', { class: 'kicker' }, t('heroKicker')),
            h('h1', { tabindex: '-1' }, t('titleHome')),
            h('p', { class: 'lead' }, t('heroLead')),
            h('p', { class: 'hero-links' },
              h('a', { class: 'button', href: '#/tents' }, t('heroTents')),
              h('a', { class: 'button button-plain', href: '#/boots' }, t('heroBoots')))),
          this.aside)),
      h('ul', { class: 'promises' }, promises),
      h('section', { class: 'shelf' }, h('h2', {}, t('popular')), h('ul', { class: 'products' }, POPULAR.map((p) => this.#product(p, 'h3')))),
    ];
  }

  #welcome(focus) {
    if (!this.customer) {
      this.login.reset();
      this.aside.replaceChildren(this.login.root);
      if (focus) this.#focusHeading();
      return;
    }
    const heading = h('h2', { tabindex: '-1' }, t('welcomeTitle', { name: this.customer.name }));
    this.aside.replaceChildren(h('section', { class: 'panel welcome' }, heading, h('p', {}, t('welcomeLead')),
      h('button', { type: 'button', class: 'button', on: { click: () => this.app.openChat() } }, t('welcomeChat'))));
    if (focus) heading.focus();
  }

  #shelf(page) {
    return [h('section', { class: 'shelf shelf-page' },
      h('h1', { tabindex: '-1' }, t(PAGES[page].title)),
      h('ul', { class: 'products' }, PRODUCTS[page].map((p) => this.#product(p, 'h2'))))];
  }

  #product(product, heading) {
    const list = h('ul', { class: 'facts', id: `facts-${product.id}`, hidden: true }, product.details.map((fact) => h('li', {}, fact)));
    const toggle = h('button', { type: 'button', class: 'quiet-button', testid: `details-${product.id}`, 'aria-expanded': 'false', 'aria-controls': list.id }, t('details'));
    toggle.addEventListener('click', () => {
      const open = list.hidden;
      setShown(list, open);
      toggle.setAttribute('aria-expanded', String(open));
      setText(toggle, t(open ? 'hideDetails' : 'details'));
      if (open) this.app.interest(product.name);
    });
    const ask = h('button', { type: 'button', class: 'quiet-button strong', testid: `ask-${product.id}`, on: { click: () => { this.app.interest(product.name); this.app.openChat(); } } },
      icon('M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v8a2.5 2.5 0 0 1-2.5 2.5H11l-4.5 3.5V17A2.5 2.5 0 0 1 4 14.5z'), t('ask'));
    return h('li', { class: 'product' },
      h('img', { class: 'product-img', src: product.image, alt: '', loading: 'lazy', width: '480', height: '320' }),
      h('div', { class: 'product-body' },
        h('div', { class: 'product-top' }, h(heading, {}, product.name), h('span', { class: 'price' }, product.price)),
        h('p', {}, product.line), list,
        h('div', { class: 'product-actions' }, toggle, ask)));
  }
}
