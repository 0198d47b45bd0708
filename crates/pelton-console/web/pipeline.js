// One pipeline: its graph, tasks, incidents, dead letters and live records.

import { Table, empty, h, pill, say } from './dom.js';
import { count, rate } from './format.js';
import { carried, drawing } from './graph.js';
import { incidentList } from './incidents.js';
import { letters } from './letters.js';
import { Rates, ask, pathOf } from './live.js';
import { pageOf } from './pipelines.js';
import { tap } from './tap.js';
import { taskList } from './tasks.js';

const PARTS = [['', 'Graph'], ['tasks', 'Tasks'], ['incidents', 'Incidents'], ['letters', 'Dead letters'], ['tap', 'Tap']];

/** The part with the picture, and the books of the operators below it. */
function graphPart(about, base) {
  const rates = new Rates();
  const books = new Table('Books of the operators', [
    { name: 'Operator' }, { name: 'In', class: 'number' }, { name: 'Expanded', class: 'number wide' }, { name: 'Out', class: 'number' },
    { name: 'Filtered', class: 'number' }, { name: 'Merged', class: 'number wide' }, { name: 'Held', class: 'number wide' },
    { name: 'Dead-lettered', class: 'number' },
  ]);
  const place = h('div', {});
  let picture = null;
  const draw = () => {
    if (!about.graph) return;
    picture = drawing(about.graph, (name) => `${base}/tap?at=${encodeURIComponent(name)}`, place.clientWidth || window.innerWidth - 32);
    place.replaceChildren(picture.element);
  };
  const onresize = () => (draw(), last && show(last));
  let last = null;
  window.addEventListener('resize', onresize);

  function show(now) {
    last = now;
    if (!picture) draw();
    const accounts = new Map(now.operators.map((o) => [o.name, o.account]));
    if (picture) {
      const flows = carried(about.graph, accounts, now.account);
      const topics = new Map(about.graph.nodes.map((n) => [n.name, n.kind === 'source' ? n.topics : []]));
      picture.update(about.graph.edges.map(({ from, to }, at) => {
        const lags = topics.get(from)?.map((topic) => now.lags[topic]).filter((lag) => lag !== undefined) ?? [];
        // Whatever refuses records of this edge: the decoder behind a source, the operator, the encoder before a sink.
        const failing = [`${from}.decode`, to, `${to}.key`, `${to}.encode`].map((name) => accounts.get(name)?.deadLettered ?? 0);
        return {
          rate: flows[at] === null ? null : rates.of(`${at}`, now.at, flows[at]),
          lag: lags.length ? lags.reduce((sum, lag) => (sum === null || lag === null ? null : sum + lag), 0) : null,
          failed: failing.reduce((sum, n) => sum + n, 0),
        };
      }));
    }
    books.show(now.operators.map(({ name, account: a }) => ({
      key: name,
      class: a.deadLettered ? 'trouble' : '',
      cells: [name, a.recordsIn, a.expanded, a.recordsOut, a.filtered, a.merged, a.held, a.deadLettered].map((v, at) => (at ? count(v) : v)),
    })));
  }
  const element = h('div', {}, place, h('h2', {}, 'Books'), h('p', { class: 'hint' }, 'In and expanded are out, filtered, merged, held and dead-lettered.'), books.element);
  return { element, show, close: () => window.removeEventListener('resize', onresize) };
}

/** Figures of the whole, and the button that pauses it. */
function head(path) {
  const figures = new Map(['In', 'Out', 'Lag', 'Dead letters', 'Tasks', 'Revision'].map((name) => [name, h('dd', {}, '?')]));
  const phase = h('span', {});
  const trouble = h('p', { class: 'error', role: 'alert', hidden: true });
  const rates = new Rates();
  let wanted = '';
  const button = h('button', { type: 'button', hidden: true, onclick: () => change() });
  async function change() {
    button.disabled = true;
    trouble.hidden = true;
    try {
      await ask(`${path}/${wanted}`, {});
    } catch (error) {
      trouble.hidden = false;
      say(trouble, error.message);
    }
    button.disabled = false;
  }
  function show(now) {
    if (phase.textContent !== now.phase) phase.replaceChildren(pill(now.phase));
    wanted = now.phase === 'paused' ? 'resume' : 'pause';
    say(button, wanted === 'pause' ? 'Pause' : 'Resume');
    button.hidden = ['completed', 'deleting'].includes(now.phase);
    const running = now.tasks.filter((t) => t.state === 'running').length;
    const values = [rate(rates.of('in', now.at, now.account.recordsIn)), rate(rates.of('out', now.at, now.account.recordsOut)),
      count(now.lag), count(now.account.deadLettered), `${running}/${now.tasksWanted}`, String(now.revision)];
    [...figures.values()].forEach((figure, at) => say(figure, values[at]));
  }
  const element = h('div', {}, h('div', { class: 'tools' }, phase, button), trouble,
    h('dl', { class: 'figures' }, [...figures].map(([name, figure]) => h('div', {}, h('dt', {}, name), figure))));
  return { element, show };
}

export function pipeline(namespace, name, part = '', query) {
  const path = pathOf(namespace, name);
  const base = pageOf(namespace, name);
  const top = head(path);
  const place = h('div', {}, empty('reading'));
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Parts of this page' }, PARTS.map(([key, label]) =>
    h('a', { href: key ? `${base}/${key}` : base, 'aria-current': key === part ? 'page' : null }, label)));
  let shown = null;
  let workers = [];
  let revision = null;
  let last = null;
  let closed = false;

  function make(about) {
    const list = part === 'tasks' ? taskList(false) : null;
    const troubles = part === 'incidents' ? incidentList() : null;
    const none = empty('Nothing is wrong with this pipeline.');
    if (list) return { element: list.element, show: (now) => list.show(now.at, now.tasks, workers.filter((w) => now.tasks.some((t) => t.worker === w.id))), close: list.close };
    if (troubles) return { element: h('div', {}, none, troubles.element), show: (now) => { none.hidden = now.incidents.length > 0; troubles.show(now.incidents); } };
    if (part === 'letters') return letters(path, Boolean(about.graph?.deadLetters));
    if (part === 'tap') return tap(path, about.graph?.nodes.map((n) => n.name) ?? [], query.get('at') ?? '');
    return graphPart(about, base);
  }

  async function read() {
    try {
      const about = await ask(path);
      if (closed) return;
      shown?.close?.();
      shown = make(about);
      place.replaceChildren(shown.element);
      if (last) shown.show?.(last);
    } catch (error) {
      place.replaceChildren(h('p', { class: 'error', role: 'alert' }, error.message));
    }
  }

  const handlers = {
    overview: (now) => { workers = now.workers; },
    pipeline: (now) => {
      if (!now) {
        place.replaceChildren(empty(`There is no pipeline ${namespace}/${name} any more.`));
        return;
      }
      top.show(now);
      // Another revision has another graph; records and letters that are looked at stay.
      if (revision !== null && revision !== now.revision && part === '') read();
      revision = now.revision;
      last = now;
      shown?.show?.(now);
    },
  };
  read();
  const element = h('div', {}, top.element, tabs, place);
  const show = `show=pipeline&of=${encodeURIComponent(`${namespace}/${name}`)}`;
  return { title: `${namespace}/${name}`, element, show, handlers, close: () => { closed = true; shown?.close?.(); } };
}
