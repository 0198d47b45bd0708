// Elements from plain values. Text is only ever set as text, so that no record can become markup.

const SVG = 'http://www.w3.org/2000/svg';

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element: `h('a', { href: '#/' }, 'text')`. A name that begins with `on` is a listener. */
export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

/** Set a text, without touching the page when it is the same. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A table that keeps its rows between updates, so that focus and selection stay. */
export class Table {
  /** `columns`: `{ name, class, title }`; the first cell of a row is its header. */
  constructor(caption, columns) {
    this.columns = columns;
    this.rows = new Map();
    this.body = h('tbody');
    const heads = columns.map((c) => h('th', { scope: 'col', class: c.class, title: c.title }, c.name));
    this.element = h('div', { class: 'scroll' },
      h('table', {}, h('caption', { class: 'hidden' }, caption), h('thead', {}, h('tr', {}, heads)), this.body));
  }

  /** Show these rows: `{ key, cells, class }`. A cell is a text, or a function that makes an element once. */
  show(rows) {
    const gone = new Set(this.rows.keys());
    let before = null;
    for (const { key, cells, class: kind } of rows) {
      gone.delete(key);
      let row = this.rows.get(key);
      if (!row) {
        row = h('tr', {}, cells.map((cell, at) => {
          const content = typeof cell === 'function' ? cell() : String(cell ?? '');
          const name = this.columns[at].class;
          return at === 0 ? h('th', { scope: 'row', class: name }, content) : h('td', { class: name }, content);
        }));
        this.rows.set(key, row);
      }
      cells.forEach((cell, at) => {
        if (typeof cell !== 'function') say(row.children[at], String(cell ?? ''));
      });
      row.className = kind ?? '';
      const place = before ? before.nextSibling : this.body.firstChild;
      if (place !== row) this.body.insertBefore(row, place);
      before = row;
    }
    for (const key of gone) {
      this.rows.get(key).remove();
      this.rows.delete(key);
    }
  }
}

/** A word in a coloured pill; the word carries the meaning, the colour helps. */
export const pill = (word, kind) => h('span', { class: `pill ${kind ?? word}` }, word);

/** A line in place of a list that is empty. */
export const empty = (...text) => h('p', { class: 'empty' }, text);
