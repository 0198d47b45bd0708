// Shortcuts. Single keys, so they do nothing while somebody types.

const PAGES = { p: '#/', t: '#/tasks', i: '#/incidents' };

/** Entries of the list on the page, in order. */
const entries = () => [...document.querySelectorAll('main [data-entry]')].filter((e) => e.offsetParent !== null);

function step(by) {
  const all = entries();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by));
  all[next].focus();
  all[next].scrollIntoView({ block: 'nearest' });
}

/** Listen for shortcuts. */
export function listen() {
  const help = document.getElementById('shortcuts');
  document.getElementById('help').addEventListener('click', () => help.showModal());
  let leader = 0;
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const typing = event.target.closest?.('input, textarea, select');
    if (typing) {
      if (event.key === 'Escape') typing.blur();
      return;
    }
    const led = event.timeStamp - leader < 1500;
    leader = 0;
    if (led && PAGES[event.key]) location.hash = PAGES[event.key];
    else if (event.key === 'g') leader = event.timeStamp;
    else if (event.key === 'j') step(1);
    else if (event.key === 'k') step(-1);
    else if (event.key === '?') help.showModal();
    else if (event.key === '/') document.querySelector('main input[type=search]')?.focus();
    else if (/^[1-5]$/.test(event.key)) document.querySelectorAll('main .tabs a')[event.key - 1]?.click();
    else return;
    event.preventDefault();
  });
}
