// Plain text with its web addresses as links.

import { outLink, safeUrl } from '../dom.js';

const ADDRESS = /https?:\/\/[^\s<>"']{1,2048}/gi;

/** Nodes for a piece of plain text. */
export function linkify(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = trimTail(match[0]);
    const href = safeUrl(address);
    if (!href) continue;
    if (match.index > at) nodes.push(text.slice(at, match.index));
    nodes.push(outLink(href, {}, address));
    at = match.index + address.length;
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}

// A full stop or bracket after an address belongs to the sentence.
function trimTail(address) {
  let end = address.length;
  while (end > 0 && '.,;:!?)]}'.includes(address[end - 1])) {
    if (address[end - 1] === ')' && address.slice(0, end).includes('(')) break;
    end -= 1;
  }
  return address.slice(0, end);
}
