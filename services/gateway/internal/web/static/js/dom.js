// Building the page. Text is always a text node: nothing here, and nothing in
// the views, ever parses a string as HTML into the page.

/**
 * Makes an element: h('button', {class: 'x', on: {click}}, 'Label', child).
 * Properties that are false, null or undefined are left out; true is an empty
 * attribute; testid becomes data-testid.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  setProps(element, props);
  append(element, children);
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** A stroke icon of one or more paths in a 24 x 24 box; decoration only. */
export function icon(...paths) {
  const element = document.createElementNS(SVG, 'svg');
  const attributes = { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true', focusable: 'false' };
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const d of paths) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    element.append(path);
  }
  return element;
}

function setProps(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === 'testid') {
      element.dataset.testid = value;
    } else if (name === 'data') {
      Object.assign(element.dataset, value);
    } else {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === false || child === null || child === undefined) continue;
    element.append(child);
  }
}

/** Sets text only where it differs, so that live regions speak once. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows or hides. */
export function setShown(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** An address that may be opened: http and https only; else null. */
export function safeUrl(text, base) {
  if (!text) return null;
  try {
    const url = new URL(text, base);
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null;
  } catch {
    return null;
  }
}

/** A link out of the page that gives nothing away. */
export function outLink(href, props, ...children) {
  return h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow', referrerpolicy: 'no-referrer', ...props }, ...children);
}
