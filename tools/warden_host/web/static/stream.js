// @ts-check
/**
 * Follows a stream of server-sent events, and says in #link whether it is there.
 *
 * @typedef {{kind: string, time: number, device?: string, app?: string, name?: string, code?: string,
 *   text?: string, body?: Object<string, unknown>}} FleetEvent
 * @typedef {{after: number, mark: number, lost: number, events: FleetEvent[]}} Batch
 */

const RETRY_MS = 2000;
const SILENT_MS = 30000; // of the fleet's stream, which says every 10 s that all is well
const LATE = "live; open the page again for what happened in between";

const link = /** @type {HTMLElement} */ (document.getElementById("link"));
let late = false; // the page lacks something, and is kept as it is
let typed = false;
addEventListener("input", () => {
  typed = true;
});

// What a page loads by itself is no sign of its user; what the user loads from here is.
const here = new URL(location.href);
if (here.searchParams.has("unasked")) {
  here.searchParams.delete("unasked");
  history.replaceState(history.state, "", here);
}

/** Loads the page again, which then has what it missed, unless something was typed into it. */
function renew() {
  if (!typed) {
    here.searchParams.set("unasked", "1");
    location.replace(here);
  }
  late = true;
  link.textContent = LATE;
}

/**
 * Follows what a page shows whole: one that missed something is loaded again.
 *
 * @param {string} path of the stream
 * @param {(line: any) => boolean | void} show takes each line; true ends the stream for good
 */
export function follow(path, show) {
  let lost = document.hidden; // events were missed since the page was made
  hold(
    () => path,
    show,
    () => {
      if (lost) renew();
      lost = true;
    },
  );
}

/**
 * Follows the fleet's events from the moment on that the page was made. No event is left out while
 * the page is hidden or without a connection, as long as the fleet keeps them.
 *
 * @param {string} device whose events, or "" for all
 * @param {(events: FleetEvent[]) => void} show takes what is new, before a frame is drawn
 */
export function followFleet(device, show) {
  let mark = document.body.dataset.mark ?? "";
  const query = device ? `&device=${encodeURIComponent(device)}` : "";
  /** @type {FleetEvent[]} */
  let fresh = [];
  hold(
    () => `/live?after=${mark}${query}`,
    (/** @type {Batch} */ batch) => {
      if (batch.lost || String(batch.after) !== mark) renew();
      mark = String(batch.mark);
      if (!batch.events.length) return;
      if (!fresh.length) {
        requestAnimationFrame(() => {
          const events = fresh;
          fresh = [];
          show(events);
        });
      }
      fresh = fresh.concat(batch.events);
    },
    () => {},
    SILENT_MS,
  );
}

/**
 * Keeps a stream open while the page is seen.
 *
 * @param {() => string} address
 * @param {(line: any) => boolean | void} take true ends it for good
 * @param {() => void} opened
 * @param {number} silentMs after which a stream that says nothing is opened again; 0 for never
 */
function hold(address, take, opened, silentMs = 0) {
  let over = false;
  let timer = 0;
  /** @type {EventSource | null} */
  let source = null;

  function connect() {
    if (document.hidden || source || over) return;
    const made = new EventSource(address());
    source = made;
    made.onopen = () => {
      link.textContent = late ? LATE : "live";
      link.className = "link";
      listen();
      opened();
    };
    made.onmessage = (message) => {
      listen();
      if (!take(JSON.parse(message.data))) return;
      over = true;
      disconnect();
    };
    made.onerror = fail;
  }

  function listen() {
    clearTimeout(timer);
    if (silentMs) timer = setTimeout(fail, silentMs);
  }

  function fail() {
    disconnect();
    link.textContent = "no connection to the fleet: trying again";
    link.className = "link lost";
    fetch("/session").then(
      (answer) => {
        if (answer.status === 401) location.assign("/login");
        else setTimeout(connect, RETRY_MS);
      },
      () => setTimeout(connect, RETRY_MS),
    );
  }

  function disconnect() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  // A browser opens six connections to a server at most, and each page that shows events holds one.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  connect();
}
