// Live records at one place of a pipeline: a sample, newest on top.

import { empty, h, say } from './dom.js';
import { time } from './format.js';
import { Stream } from './live.js';

/** Records on the page; older ones leave it. */
const KEPT = 200;

export function tap(path, places, at) {
  const list = h('ol', { class: 'records' });
  const state = h('p', { role: 'status', class: 'summary' });
  const none = empty('Waiting for a record.');
  const place = h('select', { 'aria-label': 'Place', onchange: () => open() },
    h('option', { value: '' }, 'into the sinks'), places.map((name) => h('option', { value: name, selected: name === at }, name)));
  const hold = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => toggle() }, 'Hold');
  let stream = null;
  let held = false;

  function entry(r) {
    return h('li', {},
      h('div', { class: 'line' }, h('span', { class: 'at' }, r.at), h('span', {}, `${r.topic}[${r.partition}]@${r.offset}`),
        h('span', {}, time(r.timestampMs)), h('span', { class: 'key' }, r.key ?? 'null'), r.cut && h('span', {}, '(cut)')),
      h('pre', {}, r.value ?? 'null'));
  }

  function records(bunch) {
    if (held) return;
    none.hidden = true;
    list.prepend(...bunch.map(entry).reverse());
    while (list.children.length > KEPT) list.lastChild.remove();
    say(state, 'a sample, up to 20 a second');
  }

  function open() {
    stream?.close();
    list.replaceChildren();
    none.hidden = false;
    say(state, '');
    const handlers = { records, trouble: (t) => say(state, t.error) };
    stream = new Stream(`${path}/tap?at=${encodeURIComponent(place.value)}`, handlers, (on) => !on && say(state, 'not connected'));
  }

  function toggle() {
    held = !held;
    hold.setAttribute('aria-pressed', String(held));
    say(hold, held ? 'Go on' : 'Hold');
    if (held) stream.pause();
    else stream.open();
  }

  open();
  const element = h('div', {}, h('div', { class: 'tools' }, h('label', {}, 'At ', place), hold, state), none, list);
  return { element, close: () => stream?.close() };
}
