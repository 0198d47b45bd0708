// Tasks by worker, with their epochs, and the moves between workers.

import { Table, empty, h, pill } from './dom.js';
import { bytes, count, counted, rate, time } from './format.js';
import { LongList } from './list.js';
import { Rates } from './live.js';
import { pageOf } from './pipelines.js';

/** `namespace/name[rest]` in its parts. */
export function partsOf(task) {
  const [, namespace, name, rest] = /^([^/]*)\/([^[]*)\[(.*)\]$/.exec(task) ?? [null, '', task, ''];
  return { namespace, name, rest };
}

const HEADS = [
  { name: 'Task', class: 'first' }, { name: 'State' }, { name: 'Epoch', class: 'number' }, { name: 'In', class: 'number' },
  { name: 'Out', class: 'number wide' }, { name: 'Lag', class: 'number' }, { name: 'Busy', class: 'number wide' },
  { name: 'Commits', class: 'number wide' },
];

/** The list of tasks; `show(at, tasks, workers)` fills it. */
export function taskList(link = true) {
  const rates = new Rates();
  const list = new LongList('Tasks by worker', HEADS, cells, (item) => (item.worker ? 'group' : item.task.incident ? 'trouble' : ''));
  const filter = h('input', { type: 'search', placeholder: 'Filter by task, worker or state', 'aria-label': 'Filter tasks', oninput: () => draw() });
  const total = h('p', { class: 'summary' });
  let last = null;

  function cells({ worker, task }) {
    if (worker) return [[h('strong', {}, worker.name), ' ', pill(worker.state), h('span', { class: 'about' }, worker.about)]];
    const { namespace, name } = partsOf(task.task);
    const speed = (what) => rate(rates.of(`${task.task}@${task.epoch} ${what}`, last.at, task[what]));
    return [
      link ? h('a', { href: `${pageOf(namespace, name)}/tasks`, 'data-entry': true }, task.task) : task.task,
      [pill(task.state), task.incident && h('a', { href: `#/incidents/${task.incident.code}`, class: 'code', title: task.incident.message }, task.incident.code)],
      String(task.epoch), speed('in'), speed('out'), count(task.lag), task.blocked ? 'blocked' : `${task.busy} %`, count(task.commits),
    ];
  }

  function about(w) {
    const version = w.version ? `, ${w.version}` : '';
    return `${w.tasks} of ${w.capacity} tasks, ${bytes(w.residentBytes)}, ${counted(w.executors, 'executor')}${version}`;
  }

  function draw() {
    if (!last) return;
    // Every task is looked at, so that the rates of those out of sight are known when they come.
    for (const t of last.tasks) for (const what of ['in', 'out']) rates.of(`${t.task}@${t.epoch} ${what}`, last.at, t[what]);
    rates.sweep(last.at);
    const wanted = filter.value.toLowerCase();
    const fits = (t) => `${t.task} ${t.worker} ${t.state}`.toLowerCase().includes(wanted);
    const groups = new Map(last.workers.map((w) => [w.id, { name: w.id, state: w.state, about: about(w), tasks: [] }]));
    for (const task of last.tasks.filter(fits)) {
      const [name, state] = task.worker ? [task.worker, 'gone'] : task.state === 'completed' ? ['done', 'completed'] : ['no worker', 'waiting'];
      if (!groups.has(name)) groups.set(name, { name, state, about: '', tasks: [] });
      groups.get(name).tasks.push(task);
    }
    const shown = [...groups.values()].filter((g) => g.tasks.length || !wanted);
    list.show(shown.flatMap((g) => [{ worker: g }, ...g.tasks.map((task) => ({ task }))]));
    total.textContent = `${counted(last.tasks.length, 'task')} on ${counted(last.workers.length, 'worker')}`;
  }

  return {
    element: h('div', {}, h('div', { class: 'tools' }, filter, total), list.element),
    show(at, tasks, workers) {
      last = { at, tasks, workers };
      draw();
    },
    close: () => list.close(),
  };
}

export function tasks() {
  const list = taskList();
  const moves = new Table('Moves', [{ name: 'Task' }, { name: 'From' }, { name: 'To' }, { name: 'Epoch', class: 'number' }, { name: 'When' }, { name: 'Why' }]);
  const still = empty('No task has changed its worker since the coordinator started.');
  let workers = [];
  const handlers = {
    overview: (now) => { workers = now.workers; },
    tasks: (now) => {
      list.show(now.at, now.tasks, workers);
      still.hidden = now.moves.length > 0;
      moves.element.hidden = !still.hidden;
      moves.show(now.moves.map((m) => ({
        key: `${m.task} ${m.epoch}`,
        cells: [m.task, m.from || '-', m.to, m.epoch ?? 'on its way', time(m.atMs), m.reason],
      })));
    },
  };
  const element = h('div', {}, list.element, h('h2', {}, 'Moves'), still, moves.element);
  return { title: 'Tasks', element, show: 'show=tasks', handlers, close: () => list.close() };
}
