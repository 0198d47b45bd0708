// A long list of rows of one height: only those in sight are in the page.

import { h } from './dom.js';

const ROW = 36;
/** Rows beyond the edge, so that a scroll meets no gap. */
const SPARE = 8;

export class LongList {
  /** `heads`: `{ name, class }`; `make(item)` gives the cells of a row, `kind(item)` its class. */
  constructor(label, heads, make, kind) {
    this.make = make;
    this.kind = kind;
    this.items = [];
    this.heads = heads;
    const head = h('div', { class: 'head', role: 'rowgroup' }, h('div', { class: 'row', role: 'row' }, heads.map((c) => h('span', { role: 'columnheader', class: c.class }, c.name))));
    this.window = h('div', { class: 'window', role: 'rowgroup' });
    this.space = h('div', { class: 'space', role: 'presentation' }, this.window);
    this.view = h('div', { class: 'view', role: 'table', tabindex: '0', 'aria-label': label, onscroll: () => this.draw() }, head, this.space);
    this.element = h('div', { class: 'long' }, this.view);
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.view);
  }

  show(items) {
    this.items = items;
    this.view.setAttribute('aria-rowcount', items.length + 1);
    this.space.style.height = `${items.length * ROW}px`;
    this.draw();
  }

  draw() {
    const from = Math.max(0, Math.floor(this.view.scrollTop / ROW) - SPARE);
    const to = Math.min(this.items.length, Math.ceil((this.view.scrollTop + this.view.clientHeight) / ROW) + SPARE);
    this.window.style.transform = `translateY(${from * ROW}px)`;
    const rows = this.items.slice(from, to).map((item, at) => h('div', { class: `row ${this.kind(item)}`, role: 'row', 'aria-rowindex': from + at + 2 },
      this.make(item).map((cell, column) => h('span', { role: 'cell', class: this.heads[column]?.class }, cell))));
    // What had the focus has it again, in its new row.
    const held = this.window.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
    this.window.replaceChildren(...rows);
    if (held) [...this.window.querySelectorAll('a')].find((a) => a.getAttribute('href') === held)?.focus({ preventScroll: true });
  }

  close() {
    this.sized.disconnect();
  }
}
