// @ts-check
/**
 * Shows what happens in the fleet, from the server-sent events of /live.
 *
 * @typedef {{kind: string, time: number, device?: string, app?: string, name?: string, code?: string,
 *   text?: string, body?: Object<string, unknown>}} FleetEvent
 */

const MOST = 100; // lines
const RETRY_MS = 2000;
const STATES = new Map([["came", "online"], ["session", "online"], ["left", "away"], ["quarantined", "quarantined"]]);

const link = /** @type {HTMLElement} */ (document.getElementById("link"));
const list = /** @type {HTMLElement} */ (document.getElementById("events"));
const facts = /** @type {HTMLElement | null} */ (document.querySelector("table.facts"));
const only = facts?.dataset.device ?? "";
/** @type {Map<string, HTMLElement>} */
const rows = new Map();
for (const row of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("tr[data-device]"))) {
  rows.set(row.dataset.device ?? "", row);
}
if (facts) rows.set(only, facts);

/** @param {FleetEvent} event */
function describe(event) {
  const body = event.body && Object.keys(event.body).length ? JSON.stringify(event.body).slice(0, 300) : "";
  const parts = [event.device, event.kind, event.app, event.name, event.code, event.text, body];
  return `${new Date(event.time * 1000).toLocaleTimeString()}  ${parts.filter(Boolean).join("  ")}`;
}

/** @param {FleetEvent} event */
function show(event) {
  const row = rows.get(event.device ?? "");
  if (row) {
    const state = STATES.get(event.kind);
    const cell = row.querySelector(".state");
    if (state && cell) {
      cell.textContent = state;
      cell.className = `state ${state}`;
    }
    const last = row.querySelector(".last");
    if (last) last.textContent = [event.name || event.kind, event.code].filter(Boolean).join(" ");
  }
  if (only && event.device !== only) return;
  const line = document.createElement("li");
  line.textContent = describe(event);
  list.prepend(line);
  while (list.children.length > MOST) list.lastElementChild?.remove();
}

let lost = document.hidden; // events were missed since the page was made
let typed = false;
/** @type {EventSource | null} */
let source = null;

function connect() {
  if (document.hidden || source) return;
  const made = new EventSource("/live");
  source = made;
  made.onopen = () => {
    if (lost && !typed) {
      location.reload(); // what happened in between is in the page, not in the events
      return;
    }
    link.textContent = lost ? "live; open the page again for what happened in between" : "live";
    link.className = "link";
  };
  made.onmessage = (message) => show(/** @type {FleetEvent} */ (JSON.parse(message.data)));
  made.onerror = () => {
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
  };
}

function disconnect() {
  lost = true;
  source?.close();
  source = null;
}

addEventListener("input", () => {
  typed = true;
});
// A browser opens six connections to a server at most, and each page that shows events holds one.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
connect();
