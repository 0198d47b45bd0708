// The little of Markdown that the pages of incidents use, as elements.

import { h } from './dom.js';

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*]+)\*|\[([^\]]+)\]\(([^)\s]+)\)/g;

/** A link to another code's page stays here; any other is shown as text: there is nothing else to lead to. */
function reference(text, target) {
  const code = /^(PLT\d{4})\.md$/.exec(target)?.[1];
  return code ? h('a', { href: `#/incidents/${code}` }, text) : text;
}

function inline(text) {
  const out = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    out.push(text.slice(from, match.index));
    const [, code, strong, slanted, label, target] = match;
    if (code) out.push(h('code', {}, code));
    else if (strong) out.push(h('strong', {}, strong));
    else if (slanted) out.push(h('em', {}, slanted));
    else out.push(reference(label, target));
    from = match.index + match[0].length;
  }
  return [...out, text.slice(from)];
}

/** The elements of a page, without its title. */
export function markdown(text) {
  const out = [];
  const lines = text.split('\n');
  let list = null;
  let words = [];
  const flush = () => {
    if (words.length) out.push(h('p', {}, inline(words.join(' '))));
    words = [];
  };
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at];
    const item = /^(?:\d+\.|[-*]) (.*)$/.exec(line);
    if (line.startsWith('```')) {
      flush();
      const end = lines.findIndex((l, i) => i > at && l.startsWith('```'));
      const until = end < 0 ? lines.length : end;
      out.push(h('pre', {}, lines.slice(at + 1, until).join('\n')));
      at = until;
    } else if (item) {
      flush();
      const kind = /^\d/.test(line) ? 'OL' : 'UL';
      if (list?.tagName !== kind) out.push((list = h(kind.toLowerCase(), {})));
      let words = item[1];
      while (/^ +\S/.test(lines[at + 1] ?? '')) words += ` ${lines[(at += 1)].trim()}`;
      list.append(h('li', {}, inline(words)));
      continue;
    } else if (line.startsWith('# ')) {
      flush();
    } else if (line.startsWith('## ')) {
      flush();
      out.push(h('h2', {}, inline(line.slice(3))));
    } else if (!line.trim()) {
      flush();
    } else {
      words.push(line.trim());
    }
    if (line.trim()) list = null;
  }
  flush();
  return out;
}
