// A small, safe part of Markdown, built as elements: paragraphs, line breaks,
// lists, quotes, code, bold, italic, strike, links. Everything else, HTML
// included, stays the text that it is.

import { h, outLink, safeUrl } from '../dom.js';
import { linkify } from './inline.js';

const MAX_DEPTH = 6;
/** Marks looked for in a line; each pattern is linear in its input. */
const MARKS = [
  { open: '`', make: (text) => h('code', {}, text), raw: true },
  { open: '**', make: (nodes) => h('strong', {}, nodes) },
  { open: '__', make: (nodes) => h('strong', {}, nodes), word: true },
  { open: '~~', make: (nodes) => h('s', {}, nodes) },
  { open: '*', make: (nodes) => h('em', {}, nodes) },
  { open: '_', make: (nodes) => h('em', {}, nodes), word: true },
];

/** Nodes for a Markdown text. */
export function markdown(text) {
  return blocks(text.replaceAll('\r\n', '\n').split('\n'), 0);
}

function blocks(lines, depth) {
  const out = [];
  let i = 0;
  while (i < lines.length) {
    const rule = depth < MAX_DEPTH ? BLOCKS.find((b) => b.test(lines[i])) : null;
    if (lines[i].trim() === '') { i += 1; continue; }
    if (rule) {
      const [node, next] = rule.take(lines, i, depth);
      out.push(node);
      i = next;
      continue;
    }
    const start = i;
    while (i < lines.length && lines[i].trim() !== '' && (i === start || depth >= MAX_DEPTH || !BLOCKS.some((b) => b.test(lines[i])))) i += 1;
    out.push(h('p', {}, withBreaks(lines.slice(start, i))));
  }
  return out;
}

const BLOCKS = [
  { test: (l) => l.startsWith('```'), take: takeCode },
  { test: (l) => /^#{1,6} /.test(l), take: (lines, i) => [h('p', {}, h('strong', {}, inline(lines[i].replace(/^#{1,6} /, ''), 0))), i + 1] },
  { test: (l) => /^ {0,3}[-*+] /.test(l), take: (lines, i) => takeList(lines, i, 'ul', /^ {0,3}[-*+] /) },
  { test: (l) => /^ {0,3}\d{1,4}[.)] /.test(l), take: (lines, i) => takeList(lines, i, 'ol', /^ {0,3}\d{1,4}[.)] /) },
  { test: (l) => l.startsWith('>'), take: takeQuote },
];

function takeCode(lines, i) {
  let end = i + 1;
  while (end < lines.length && !lines[end].startsWith('```')) end += 1;
  return [h('pre', {}, h('code', {}, lines.slice(i + 1, end).join('\n'))), Math.min(end + 1, lines.length)];
}

function takeList(lines, i, tag, mark) {
  const items = [];
  let end = i;
  while (end < lines.length && mark.test(lines[end])) {
    items.push(h('li', {}, inline(lines[end].replace(mark, ''), 0)));
    end += 1;
  }
  const start = tag === 'ol' ? Number.parseInt(lines[i], 10) : 1;
  return [h(tag, { start: start > 1 ? start : null }, items), end];
}

function takeQuote(lines, i, depth) {
  let end = i;
  while (end < lines.length && lines[end].startsWith('>')) end += 1;
  return [h('blockquote', {}, blocks(lines.slice(i, end).map((l) => l.replace(/^> ?/, '')), depth + 1)), end];
}

function withBreaks(lines) {
  return lines.flatMap((line, i) => (i ? [h('br'), ...inline(line.trimStart(), 0)] : inline(line, 0)));
}

function inline(text, depth) {
  const out = [];
  let plain = '';
  const flush = () => { out.push(...linkify(plain)); plain = ''; };
  let i = 0;
  while (i < text.length) {
    if (text[i] === '\\' && /[\\`*_~[\]()#>+\-.!]/.test(text[i + 1] ?? '')) {
      plain += text[i + 1];
      i += 2;
      continue;
    }
    const found = depth < MAX_DEPTH ? takeLink(text, i) ?? takeMark(text, i, depth) : null;
    if (found) {
      flush();
      out.push(found.node);
      i = found.end;
    } else {
      plain += text[i];
      i += 1;
    }
  }
  flush();
  return out;
}

function takeMark(text, i, depth) {
  for (const mark of MARKS) {
    if (!text.startsWith(mark.open, i)) continue;
    const start = i + mark.open.length;
    if (mark.word && /\w/.test(text[i - 1] ?? '')) continue;
    const end = text.indexOf(mark.open, start + 1);
    if (end < 0 || (!mark.raw && (/\s/.test(text[start]) || /\s/.test(text[end - 1])))) continue;
    if (mark.word && /\w/.test(text[end + mark.open.length] ?? '')) continue;
    const body = text.slice(start, end);
    return { node: mark.make(mark.raw ? body : inline(body, depth + 1)), end: end + mark.open.length };
  }
  return null;
}

function takeLink(text, i) {
  if (text[i] !== '[') return null;
  const close = text.indexOf('](', i);
  if (close < 0) return null;
  const end = text.indexOf(')', close + 2);
  if (end < 0) return null;
  const label = text.slice(i + 1, close);
  const href = safeUrl(text.slice(close + 2, end).trim().split(/\s/)[0]);
  if (!label || !href) return null;
  return { node: outLink(href, {}, label.replaceAll(/[*_`]/g, '')), end: end + 1 };
}
