// @ts-check
/**
 * Shows what happens in the fleet, from the server-sent events of /live.
 *
 * @typedef {{kind: string, time: number, device?: string, app?: string, name?: string, code?: string,
 *   text?: string, body?: Object<string, unknown>}} FleetEvent
 */

import { follow } from "./stream.js";

const MOST = 100; // lines
const STATES = new Map([["came", "online"], ["session", "online"], ["left", "away"], ["quarantined", "quarantined"]]);

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

follow("/live", (/** @type {FleetEvent} */ event) => {
  show(event);
  document.dispatchEvent(new CustomEvent("fleet", { detail: event })); // for the page's other scripts
});
