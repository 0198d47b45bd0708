// All pipelines.

import { Table, empty, h, pill } from './dom.js';
import { count, counted, rate } from './format.js';
import { Rates } from './live.js';

/** Where a pipeline's page is. */
export const pageOf = (namespace, name) => `#/pipelines/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;

export function pipelines() {
  const rates = new Rates();
  const table = new Table('Pipelines', [
    { name: 'Pipeline' },
    { name: 'Phase' },
    { name: 'In', class: 'number' },
    { name: 'Out', class: 'number wide' },
    { name: 'Lag', class: 'number', title: 'records between positions and ends' },
    { name: 'Dead letters', class: 'number wide' },
    { name: 'Tasks', class: 'number wide', title: 'running of wanted' },
    { name: 'Incidents', class: 'number' },
  ]);
  const filter = h('input', { type: 'search', placeholder: 'Filter', 'aria-label': 'Filter pipelines', oninput: () => draw() });
  const none = empty('There is no pipeline yet: ', h('code', {}, 'pelton apply -f pipeline.yaml'), ' submits one.');
  const workers = h('p', { class: 'summary' });
  const element = h('div', {}, h('div', { class: 'tools' }, filter, workers), none, table.element);
  let now = null;

  function draw() {
    if (!now) return;
    const wanted = filter.value.toLowerCase();
    const shown = now.pipelines.filter((p) => `${p.namespace}/${p.name}`.toLowerCase().includes(wanted));
    none.hidden = now.pipelines.length > 0;
    table.element.hidden = now.pipelines.length === 0;
    table.show(shown.map((p) => ({
      key: `${p.uuid} ${p.phase}`,
      class: p.incidents ? 'trouble' : '',
      cells: [
        () => h('a', { href: pageOf(p.namespace, p.name), 'data-entry': true }, `${p.namespace}/${p.name}`),
        () => pill(p.phase),
        rate(rates.of(`${p.uuid} in`, now.at, p.account.recordsIn)),
        rate(rates.of(`${p.uuid} out`, now.at, p.account.recordsOut)),
        count(p.lag),
        count(p.account.deadLettered),
        `${p.running}/${p.tasks}`,
        count(p.incidents),
      ],
    })));
  }

  const overview = (next) => {
    now = next;
    const attached = now.workers.filter((w) => w.state === 'attached').length;
    workers.textContent = `${counted(now.pipelines.length, 'pipeline')} on ${counted(attached, 'worker')}`;
    draw();
  };
  return { title: 'Pipelines', element, handlers: { overview } };
}
