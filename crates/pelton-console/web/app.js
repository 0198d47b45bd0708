// The shell: which page is shown, and the one stream of events it lives from.

import { h, say } from './dom.js';
import { Stream } from './live.js';
import { listen } from './keys.js';
import { pipelines } from './pipelines.js';
import { pipeline } from './pipeline.js';
import { tasks } from './tasks.js';
import { incidents, incidentPage } from './incidents.js';

const main = document.getElementById('content');
const link = document.getElementById('link');
const badge = document.getElementById('open-incidents');

/** Pages by path; a page is `{ title, element, show, handlers, close }`. */
const ROUTES = [
  [/^$/, 'pipelines', pipelines],
  [/^pipelines\/([^/]+)\/([^/]+)(?:\/([a-z]+))?$/, 'pipelines', pipeline],
  [/^tasks$/, 'tasks', tasks],
  [/^incidents$/, 'incidents', incidents],
  [/^incidents\/(PLT\d{4})$/, 'incidents', incidentPage],
];

let page = null;
let stream = null;

function nowhere() {
  return { title: 'No such page', element: h('p', {}, 'There is no such page. ', h('a', { href: '#/' }, 'Pipelines')) };
}

function connected(on) {
  say(link, on ? 'live' : 'no connection');
  link.className = on ? 'on' : 'off';
}

function overview(now) {
  badge.hidden = now.incidents === 0;
  say(badge, String(now.incidents));
  badge.setAttribute('aria-label', `${now.incidents} open`);
}

/** Show the page of the address. */
function go() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  if (path === 'content') return main.focus();
  const found = ROUTES.map(([form, name, make]) => [form.exec(path), name, make]).find(([match]) => match);
  const [match, name, make] = found ?? [[], '', nowhere];
  const next = make(...match.slice(1).map((part) => part && decodeURIComponent(part)), new URLSearchParams(query));
  page?.close?.();
  stream?.close();
  page = next;
  main.replaceChildren(h('h1', { tabindex: '-1' }, page.heading ?? page.title), page.element);
  main.querySelector('.tabs [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  document.title = `${page.title} - Pelton`;
  for (const a of document.querySelectorAll('nav a[data-page]')) {
    if (a.dataset.page === name) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  const { overview: seen, ...others } = page.handlers ?? {};
  const handlers = { ...others, overview: (now) => (overview(now), seen?.(now)) };
  stream = new Stream(`events?${page.show ?? ''}`, handlers, connected);
  // For those who do not see the page change; the first one is where the browser is anyway.
  if (started) main.querySelector('h1').focus({ preventScroll: true });
  started = true;
  window.scrollTo(0, 0);
}

let started = false;
listen();
window.addEventListener('hashchange', go);
go();
