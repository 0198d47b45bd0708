// What comes from the coordinator: answers of the API, and the stream of events of the page that is open.

/** Ask the API. Throws an `Error` with the coordinator's words. Paths are relative, so that any prefix works. */
export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  };
  const answer = await fetch(`api/v1/${path}`, options);
  const json = (answer.headers.get('content-type') ?? '').startsWith('application/json');
  const said = json ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Error(said.error ?? `the coordinator answered ${answer.status}`);
  return said;
}

/** The API's path of a pipeline. */
export const pathOf = (namespace, name) => `pipelines/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;

/**
 * A stream of server-sent events that is open while its page is looked at: a hidden tab would keep one of the few
 * connections a browser has for each host.
 */
export class Stream {
  /** `handlers`: functions by name of event; `state` is called with true and false as the line comes and goes. */
  constructor(path, handlers, state = () => {}) {
    this.path = path;
    this.handlers = handlers;
    this.state = state;
    this.onvisible = () => (document.hidden ? this.pause() : this.open());
    document.addEventListener('visibilitychange', this.onvisible);
    if (!document.hidden) this.open();
  }

  open() {
    if (this.source) return;
    this.source = new EventSource(`api/v1/${this.path}`);
    this.source.onopen = () => this.state(true);
    this.source.onerror = () => {
      this.state(false);
      // The browser tries again by itself unless the answer was an error.
      if (this.source?.readyState === EventSource.CLOSED) {
        this.pause();
        this.later = setTimeout(() => this.open(), 3000);
      }
    };
    for (const [name, handler] of Object.entries(this.handlers)) {
      this.source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
    }
  }

  pause() {
    clearTimeout(this.later);
    this.source?.close();
    this.source = null;
  }

  close() {
    this.pause();
    document.removeEventListener('visibilitychange', this.onvisible);
  }
}

/** Looks that a rate is taken over: heartbeats come once a second, so that a single second has none, one or two. */
const LOOKS = 6;

/** Rates of counters by name. */
export class Rates {
  constructor() {
    this.looks = new Map();
  }

  /** The rate of a counter that is `value` at `at` milliseconds; null when it is not known yet. */
  of(name, at, value) {
    let looks = this.looks.get(name);
    const last = looks?.at(-1);
    // Another stream, or another life of what is counted.
    if (!last || at < last.at || value < last.value) this.looks.set(name, (looks = []));
    if (last?.at !== at) looks.push({ at, value });
    if (looks.length > LOOKS) looks.shift();
    const [first, newest] = [looks[0], looks.at(-1)];
    return newest.at > first.at ? ((newest.value - first.value) * 1000) / (newest.at - first.at) : null;
  }

  /** Forget what was not asked for at this moment. */
  sweep(at) {
    for (const [name, looks] of this.looks) if (looks.at(-1).at !== at) this.looks.delete(name);
  }
}
