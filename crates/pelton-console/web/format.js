// Numbers and times as people read them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { maximumFractionDigits: 1, notation: 'compact' });

/** A count, in full below a million. */
export function count(n) {
  if (n === null || n === undefined) return '?';
  return Math.abs(n) < 1e6 ? whole.format(n) : short.format(n);
}

/** So many of a thing. */
export const counted = (n, thing) => `${count(n)} ${thing}${n === 1 ? '' : 's'}`;

/** A rate per second; `?` until two looks are known. */
export function rate(n) {
  if (n === null || n === undefined) return '?';
  if (n > 0 && n < 10) return `${n.toFixed(1)}/s`;
  return `${count(Math.round(n))}/s`;
}

/** Bytes. */
export function bytes(n) {
  if (!n) return '?';
  return n < 1024 ** 3 ? `${Math.round(n / 1024 ** 2)} MiB` : `${(n / 1024 ** 3).toFixed(1)} GiB`;
}

/** A moment, in the reader's own zone. */
export function time(ms) {
  if (!(ms > 0)) return '?';
  const at = new Date(ms);
  const two = (n) => String(n).padStart(2, '0');
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const today = new Date().toDateString() === at.toDateString();
  return today ? clock : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}

/** How long ago. */
export function ago(ms, now = Date.now()) {
  if (!(ms > 0)) return '?';
  return `${span(now - ms)} ago`;
}

/** A length of time in its largest unit. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
