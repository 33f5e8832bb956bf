'use strict';
// Elements and texts. No text is ever read as HTML: it becomes text nodes.

function h(tag, props, ...children) {
  const svg = ['svg', 'path', 'line', 'circle', 'text', 'rect', 'g'];
  const node = svg.includes(tag)
    ? document.createElementNS('http://www.w3.org/2000/svg', tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (name.startsWith('on')) node[name] = value;
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null));
  return node;
}

const byId = (id) => document.getElementById(id);
const load = (id) => JSON.parse(byId(id).textContent);

// Characters that steer a terminal, turn the reading direction or hide.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/u;
const PARTS = /((?![\n\t])[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}])/u;

const CONTROLS = {0: 'NUL', 7: 'BEL', 8: 'BS', 13: 'CR', 27: 'ESC', 127: 'DEL'};

function spelled(char) {
  const code = char.codePointAt(0);
  return CONTROLS[code] ?? 'U+' + code.toString(16).toUpperCase().padStart(4, '0');
}

// One line, for attributes and options.
const plain = (text) =>
  text.replace(/\s+/g, ' ').replace(new RegExp(PARTS, 'gu'), spelled);

// A fragment that shows every character.
function shown(text) {
  const fragment = document.createDocumentFragment();
  if (!HIDDEN.test(text)) {
    fragment.append(text);
    return fragment;
  }
  text.split(PARTS).forEach((part, i) => {
    if (part) fragment.append(i % 2 ? h('span', {class: 'ctl'}, spelled(part)) : part);
  });
  return fragment;
}

const LONG = 12000;

// A block of text; a very long one is cut until it is asked for.
function block(text, className = 'prose') {
  const node = h('div', {class: className}, shown(text.slice(0, LONG)));
  if (text.length > LONG) {
    const more = h('button', {
      class: 'more',
      onclick: () => node.replaceChildren(shown(text)),
    }, `Show all ${count(text.length)} characters`);
    node.append('…', more);
  }
  return node;
}

// Folded until opened, and not drawn before.
function fold(summary, draw, props = {}) {
  const node = h('details', props, h('summary', null, ...[summary].flat()));
  const fill = () => {
    if (node.open && node.childElementCount === 1) node.append(draw());
  };
  node.ontoggle = fill;
  fill();
  return node;
}

const clip = (text, length) =>
  text.length > length ? text.slice(0, length).trimEnd() + '…' : text;

const count = (n) => Math.round(n).toLocaleString('en');

function number(value, digits = 3) {
  if (value == null) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1).replaceAll('-', '−');
  if (size >= 1000) return count(value).replace('-', '−');
  return value.toFixed(size >= 100 ? 1 : digits).replace('-', '−');
}

const signed = (value) => (value > 0 ? '+' : '') + number(value, 2);

// A metric's name as words.
const named = (name) => name.replaceAll('_', ' ').replace(/\bf1\b/, 'F1');

const plural = (n, word) => `${count(n)} ${word}${n === 1 ? '' : 's'}`;
