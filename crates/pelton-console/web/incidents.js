// What is wrong, and the page of each code.

import { empty, h, pill, say } from './dom.js';
import { ago, time } from './format.js';
import { ask } from './live.js';
import { markdown } from './markdown.js';

/** Incidents as a list that keeps its entries between updates. */
export function incidentList() {
  const known = new Map();
  const element = h('ol', { class: 'incidents' });
  function show(incidents) {
    const gone = new Set(known.keys());
    const order = incidents.map((i) => {
      const key = `${i.subject} ${i.code} ${i.sinceMs} ${i.resolvedMs ?? ''} ${i.message}`;
      gone.delete(key);
      let entry = known.get(key);
      if (!entry) {
        const when = h('span', { class: 'when', title: time(i.sinceMs) });
        const state = i.resolvedMs ? 'resolved' : i.stopsTask ? 'stopped' : 'retrying';
        entry = { when, item: h('li', { class: i.resolvedMs ? 'resolved' : '' },
          h('div', { class: 'line' },
            h('a', { href: `#/incidents/${i.code}`, 'data-entry': true, class: 'code' }, i.code),
            h('strong', {}, i.title ?? ''), pill(state), when),
          h('p', { class: 'subject' }, i.subject),
          h('p', { class: 'message' }, i.message),
          i.remedy && h('p', { class: 'remedy' }, i.remedy)) };
        known.set(key, entry);
      }
      const past = i.resolvedMs ? `open ${time(i.sinceMs)} to ${time(i.resolvedMs)}` : `opened ${ago(i.sinceMs)}`;
      say(entry.when, past);
      return entry.item;
    });
    for (const key of gone) {
      known.get(key).item.remove();
      known.delete(key);
    }
    order.forEach((item, at) => {
      if (element.children[at] !== item) element.insertBefore(item, element.children[at] ?? null);
    });
  }
  return { element, show };
}

export function incidents() {
  const [open, past] = [incidentList(), incidentList()];
  const none = empty('Nothing is wrong.');
  const before = h('section', { hidden: true }, h('h2', {}, 'Resolved'), past.element);
  const handlers = {
    incidents: (all) => {
      const now = all.filter((i) => !i.resolvedMs);
      none.hidden = now.length > 0;
      open.show(now);
      before.hidden = now.length === all.length;
      past.show(all.filter((i) => i.resolvedMs));
    },
  };
  return { title: 'Incidents', element: h('div', {}, none, open.element, before), show: 'show=incidents', handlers };
}

export function incidentPage(code) {
  const open = incidentList();
  const affected = h('section', { hidden: true }, h('h2', {}, 'Open now'), open.element);
  const text = h('article', { class: 'text' }, 'reading');
  const title = h('span', {}, code);
  ask(`incidents/${code}`).then(
    (page) => {
      say(title, /^# (.*)$/m.exec(page)?.[1] ?? code);
      text.replaceChildren(...markdown(page));
    },
    (error) => text.replaceChildren(h('p', { class: 'error' }, error.message)),
  );
  const handlers = {
    incidents: (all) => {
      const own = all.filter((i) => i.code === code && !i.resolvedMs);
      affected.hidden = own.length === 0;
      open.show(own);
    },
  };
  const element = h('div', {}, h('p', { class: 'crumbs' }, h('a', { href: '#/incidents' }, 'Incidents')), text, affected);
  return { title: code, heading: title, element, show: 'show=incidents', handlers };
}
