// HTML from agents and bots is never trusted: it is parsed apart from the page,
// where nothing runs or loads, and what is allowed is built anew. Only the
// element names below come through, and of attributes only a link's address.

import { h, outLink, safeUrl } from '../dom.js';

/** Allowed elements and what they become. A map: an object has a "constructor" without being told. */
const ALLOWED = new Map(Object.entries({
  p: 'p', br: 'br', b: 'strong', strong: 'strong', i: 'em', em: 'em', u: 'u', s: 's', del: 's',
  ul: 'ul', ol: 'ol', li: 'li', code: 'code', pre: 'pre', blockquote: 'blockquote', hr: 'hr',
  h1: 'h4', h2: 'h4', h3: 'h4', h4: 'h4', h5: 'h4', h6: 'h4', sub: 'sub', sup: 'sup',
}));

/** Elements that go with everything in them. */
const DROPPED = new Set([
  'script', 'style', 'iframe', 'frame', 'object', 'embed', 'template', 'noscript', 'svg', 'math', 'form', 'input',
  'button', 'textarea', 'select', 'option', 'title', 'head', 'link', 'meta', 'base', 'audio', 'video', 'source',
  'canvas', 'dialog', 'portal', 'slot',
]);

/**
 * The page takes no text for HTML (trusted types) but this: what is parsed here
 * stays apart from it, where nothing runs.
 */
const apart = globalThis.trustedTypes?.createPolicy('inert', { createHTML: (text) => text })
  ?? { createHTML: (text) => text };

const MAX_DEPTH = 30;
const MAX_NODES = 3000;

/** Nodes for an HTML text. */
export function html(text) {
  const parsed = new DOMParser().parseFromString(apart.createHTML(text), 'text/html');
  return rebuild(parsed.body, { depth: 0, budget: { nodes: MAX_NODES } });
}

function rebuild(parent, at) {
  if (at.depth > MAX_DEPTH) return [parent.textContent ?? ''];
  const out = [];
  for (const node of parent.childNodes) {
    at.budget.nodes -= 1;
    if (at.budget.nodes < 0) break;
    if (node.nodeType === Node.TEXT_NODE) out.push(node.data);
    else if (node.nodeType === Node.ELEMENT_NODE) out.push(...element(node, { ...at, depth: at.depth + 1 }));
  }
  return out;
}

function element(node, at) {
  const name = node.localName;
  if (DROPPED.has(name)) return [];
  if (name === 'a') return link(node, at);
  // A picture's address would tell its server who reads; its words are enough.
  if (name === 'img') return node.getAttribute('alt') ? [`[${node.getAttribute('alt')}]`] : [];
  const allowed = ALLOWED.get(name);
  if (allowed) return [h(allowed, {}, allowed === 'br' || allowed === 'hr' ? [] : rebuild(node, at))];
  // Unknown elements give way to what is in them; rows and blocks keep their line.
  const children = rebuild(node, at);
  return BLOCKS.has(name) ? [h('div', {}, children)] : children;
}

const BLOCKS = new Set(['div', 'section', 'article', 'header', 'footer', 'main', 'aside', 'tr', 'dl', 'dt', 'dd', 'address', 'figure']);

function link(node, at) {
  const href = safeUrl(node.getAttribute('href'));
  const children = rebuild(node, at);
  return href ? [outLink(href, {}, children)] : children;
}
