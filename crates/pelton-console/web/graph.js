// A pipeline as a picture: sources, operators, sinks, and on each edge what flows, what waits and what failed.

import { h, s, say } from './dom.js';
import { count, rate } from './format.js';

const NODE = { width: 168, height: 54 };
/** Room between nodes along the flow, where an edge's words stand, and across it. */
const GAP = { along: 122, across: 30, down: 76 };
const MARGIN = 8;

/** How far each node is from the sources: one more than the farthest that it reads. */
export function layers(nodes, edges) {
  const layer = new Map(nodes.map((n) => [n.name, 0]));
  // As many rounds as nodes are enough: an operator reads only what does not depend on it.
  for (let round = 0; round < nodes.length; round += 1) {
    let changed = false;
    for (const { from, to } of edges) {
      const least = (layer.get(from) ?? 0) + 1;
      if ((layer.get(to) ?? 0) < least) {
        layer.set(to, least);
        changed = true;
      }
    }
    if (!changed) break;
  }
  const last = Math.max(0, ...layer.values());
  for (const node of nodes) if (node.kind === 'sink') layer.set(node.name, last);
  return layer;
}

function place(nodes, edges, down) {
  const layer = layers(nodes, edges);
  const columns = [];
  for (const node of nodes) (columns[layer.get(node.name)] ??= []).push(node);
  const widest = Math.max(...columns.map((c) => c.length));
  const [along, across] = down
    ? [NODE.height + GAP.down, NODE.width + GAP.across]
    : [NODE.width + GAP.along, NODE.height + GAP.across];
  const at = new Map();
  columns.forEach((column, depth) => column.forEach((node, row) => {
    const side = MARGIN + (row + (widest - column.length) / 2) * across;
    const deep = MARGIN + depth * along;
    at.set(node.name, down ? { x: side, y: deep } : { x: deep, y: side });
  }));
  const length = (columns.length - 1) * along + (down ? NODE.height : NODE.width) + 2 * MARGIN;
  const breadth = (widest - 1) * across + (down ? NODE.width : NODE.height) + 2 * MARGIN;
  return { at, width: down ? breadth : length, height: down ? length : breadth };
}

function curve(from, to, down) {
  const [x1, y1] = down ? [from.x + NODE.width / 2, from.y + NODE.height] : [from.x + NODE.width, from.y + NODE.height / 2];
  const [x2, y2] = down ? [to.x + NODE.width / 2, to.y] : [to.x, to.y + NODE.height / 2];
  const bend = (down ? y2 - y1 : x2 - x1) / 2;
  const path = down
    ? `M${x1} ${y1} C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`
    : `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  // Words stand near the end: edges that leave one node together are apart there.
  const t = down ? 0.55 : 0.5;
  return { path, x: x1 + (x2 - x1) * t, y: y1 + (y2 - y1) * t };
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/**
 * The picture of a graph. `tapOf(name)` is where a node leads. Returns `{ element, update }`; `update` takes numbers by
 * edge index: `{ rate, lag, failed }`, each null when not known.
 */
export function drawing(graph, tapOf, width) {
  const { nodes, edges } = graph;
  const deepest = Math.max(0, ...layers(nodes, edges).values()) + 1;
  const down = deepest * (NODE.width + GAP.along) - GAP.along + 2 * MARGIN > width;
  const { at, width: w, height } = place(nodes, edges, down);
  const lines = edges.map((edge) => {
    const [from, to] = [at.get(edge.from), at.get(edge.to)];
    if (!from || !to) return null;
    const { path, x, y } = curve(from, to, down);
    const flow = s('path', { d: path, class: 'edge' });
    const anchor = down ? 'start' : 'middle';
    const shift = down ? 8 : 0;
    const words = (dy, kind) => s('text', { x: x + shift, y: y + dy, 'text-anchor': anchor, class: kind });
    const [speed, lag, failed] = [words(down ? -6 : -8, 'rate'), words(down ? 10 : 16, 'lag'), words(down ? 26 : 32, 'failed')];
    const port = edge.port && words(down ? -22 : -24, 'port');
    if (port) say(port, edge.port);
    return { flow, speed, lag, failed, group: s('g', {}, flow, port, speed, lag, failed) };
  });
  const boxes = nodes.map((node) => {
    const { x, y } = at.get(node.name);
    const about = node.topics.length ? `${node.type}: ${node.topics.join(', ')}` : node.type;
    return s('a', { href: tapOf(node.name), class: `node ${node.kind}`, 'data-node': node.name },
      s('title', {}, `${node.kind} ${node.name} (${about}): watch its records`),
      s('rect', { x, y, width: NODE.width, height: NODE.height, rx: 8 }),
      s('text', { x: x + 12, y: y + 23, class: 'name' }, cut(node.name, 20)),
      s('text', { x: x + 12, y: y + 41, class: 'about' }, cut(about, 25)));
  });
  const picture = s('svg', { width: w, height, viewBox: `0 0 ${w} ${height}`, role: 'group', 'aria-label': 'Graph of the pipeline' },
    lines.map((line) => line?.group), boxes);

  function update(numbers) {
    lines.forEach((line, index) => {
      if (!line) return;
      const { rate: speed, lag, failed } = numbers[index] ?? {};
      say(line.speed, speed === null || speed === undefined ? '' : rate(speed));
      say(line.lag, lag === null || lag === undefined ? '' : `lag ${count(lag)}`);
      say(line.failed, failed ? `${count(failed)} failed` : '');
      line.flow.setAttribute('class', `edge${speed > 0 ? ' flowing' : ''}${failed ? ' failing' : ''}`);
    });
  }
  return { element: h('div', { class: 'scroll graph' }, picture), update };
}

/**
 * What each edge carried, as a count that only grows: the account of an operator is that of all its inputs or outputs
 * together, so that an edge is known where it is the only one on one of its sides. Null where it is not.
 */
export function carried(graph, accounts, whole) {
  const of = (name) => accounts.get(name);
  const into = (name) => graph.edges.filter((e) => e.to === name).length;
  const outOf = (name) => graph.edges.filter((e) => e.from === name).length;
  const sources = graph.nodes.filter((n) => n.kind === 'source').length;
  const sinks = graph.nodes.filter((n) => n.kind === 'sink').length;
  const kinds = new Map(graph.nodes.map((n) => [n.name, n.kind]));
  return graph.edges.map(({ from, to }) => {
    if (kinds.get(from) === 'source') {
      const decoded = of(`${from}.decode`);
      if (decoded) return decoded.recordsOut;
      if (sources === 1) return whole.recordsIn;
    }
    if (kinds.get(to) === 'operator' && into(to) === 1) return of(to)?.recordsIn ?? null;
    if (kinds.get(to) === 'sink' && into(to) === 1) {
      const behind = of(`${to}.key`) ?? of(`${to}.encode`);
      if (behind) return behind.recordsIn;
      if (sinks === 1) return whole.recordsOut;
    }
    return kinds.get(from) === 'operator' && outOf(from) === 1 ? of(from)?.recordsOut ?? null : null;
  });
}
