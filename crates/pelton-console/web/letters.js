// Dead letters of a pipeline: look, replay, discard.

import { empty, h, say } from './dom.js';
import { count, time } from './format.js';
import { ask } from './live.js';

/** Letters of one list, as many as the API gives by itself. */
const MOST = 200;

const line = (name, value) => [h('dt', {}, name), h('dd', {}, value ?? 'null')];
const cut = (text, most) => (text && text.length > most ? `${text.slice(0, most)}…` : text);

function whole(letter) {
  const from = letter.source ? `${letter.source.topic}[${letter.source.partition}]@${letter.source.offset}` : '?';
  return h('div', { class: 'whole' },
    h('dl', {}, line('Cause', letter.cause), line('Operator', letter.operator), line('Read from', from),
      line('Kept in', `${letter.topic} ${letter.letter}`), line('Time', time(letter.timestampMs)), line('Key', letter.key),
      letter.headers.map((header) => line(`Header ${header.name}`, header.value))),
    h('h3', {}, 'Value'), h('pre', { tabindex: '0' }, letter.value ?? 'null'));
}

export function letters(path, configured) {
  const list = h('ol', { class: 'letters' });
  const state = h('p', { role: 'status', class: 'summary' });
  const none = empty('No dead letter waits.');
  const cause = h('input', { type: 'search', placeholder: 'Cause contains', 'aria-label': 'Filter dead letters by cause', onchange: () => read() });
  const act = (action) => h('button', { type: 'button', class: action, disabled: true, onclick: () => settle(action) }, action === 'replay' ? 'Replay' : 'Discard');
  const buttons = [act('replay'), act('discard')];
  const all = h('input', { type: 'checkbox', onchange: () => boxes().forEach((b) => { b.checked = all.checked; }) });
  const again = h('button', { type: 'button', onclick: () => read() }, 'Look again');
  const tools = h('div', { class: 'tools' }, h('label', { class: 'all' }, all, ' all shown'), buttons, again, cause, state);
  const element = h('div', { onchange: () => choose() }, tools, none, list);

  const boxes = () => [...list.querySelectorAll('input[type=checkbox]')];
  const chosen = () => boxes().filter((b) => b.checked).map((b) => b.value);
  const choose = () => buttons.forEach((b) => { b.disabled = chosen().length === 0; });

  function entry(letter) {
    const box = h('input', { type: 'checkbox', value: letter.letter, 'aria-label': `Choose ${letter.letter}` });
    const details = h('details', { ontoggle: () => details.open && details.children.length < 2 && details.append(whole(letter)) },
      h('summary', { 'data-entry': true }, h('span', { class: 'id' }, letter.letter), h('span', { class: 'operator' }, letter.operator),
        h('span', { class: 'key' }, cut(letter.key, 40) ?? 'null'), h('span', { class: 'cause' }, cut(letter.cause, 160))));
    return h('li', {}, box, details);
  }

  async function read() {
    say(state, 'reading');
    try {
      const found = await ask(`${path}/deadletters?limit=${MOST}&cause=${encodeURIComponent(cause.value)}`);
      list.replaceChildren(...found.map(entry));
      none.hidden = found.length > 0;
      say(state, found.length < MOST ? `${count(found.length)} wait` : `the oldest ${MOST}`);
    } catch (error) {
      say(state, error.message);
    }
    all.checked = false;
    choose();
  }

  async function settle(action) {
    const letters = chosen();
    const what = action === 'replay'
      ? `Write ${letters.length} records back to the partitions they were read from?`
      : `Discard ${letters.length} dead letters? Their topic keeps the records, but they are not listed any more.`;
    if (!window.confirm(what)) return;
    buttons.forEach((b) => { b.disabled = true; });
    let said;
    try {
      const { settled } = await ask(`${path}/deadletters`, { action, letters });
      said = `${count(settled)} ${action === 'replay' ? 'written back' : 'discarded'}`;
    } catch (error) {
      said = error.message;
    }
    await read();
    say(state, `${said}; ${state.textContent}`);
  }

  if (configured) read();
  else {
    tools.hidden = true;
    none.textContent = 'This pipeline keeps no dead letters: without `onError.deadLetter` a record that cannot be processed stops its task.';
  }
  return { element };
}
