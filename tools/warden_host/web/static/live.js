// @ts-check
/**
 * Shows what happens in the fleet, or at the device of the page, as it comes.
 *
 * @typedef {import("./stream.js").FleetEvent} FleetEvent
 */

import { followFleet } from "./stream.js";

const MOST = 100; // lines
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g; // they make a line read as another one
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

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" }); // toLocaleTimeString makes one each time

/** @param {FleetEvent} event */
function describe(event) {
  const body = event.body && Object.keys(event.body).length ? JSON.stringify(event.body).slice(0, 300) : "";
  const parts = [event.device, event.kind, event.app, event.name, event.code, event.text, body];
  return `${clock.format(event.time * 1000)}  ${parts.filter(Boolean).join("  ")}`.replace(TURNING, "\ufffd");
}

/**
 * Writes the state of a device once, however many of its events there are. Those of devices that
 * are not on the page cost nothing.
 *
 * @param {FleetEvent[]} events
 */
function showStates(events) {
  /** @type {Map<HTMLElement, string>} */
  const states = new Map();
  /** @type {Map<HTMLElement, FleetEvent>} */
  const last = new Map();
  for (const event of events) {
    const row = rows.get(event.device ?? "");
    if (!row) continue;
    last.set(row, event);
    const state = STATES.get(event.kind);
    if (state) states.set(row, state);
  }
  for (const [row, state] of states) {
    const cell = row.querySelector(".state");
    if (!cell) continue;
    write(cell, state);
    cell.className = `state ${state}`;
  }
  for (const [row, event] of last) {
    const cell = row.querySelector(".last");
    if (cell) write(cell, [event.name || event.kind, event.code].filter(Boolean).join(" "));
  }
}

/**
 * @param {Element} cell
 * @param {string} text that is written where it differs: else the table would be laid out for nothing
 */
function write(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

/** @param {FleetEvent[]} events */
function showLines(events) {
  const lines = document.createDocumentFragment();
  for (const event of events.slice(-MOST).reverse()) {
    const line = document.createElement("li");
    line.textContent = describe(event);
    lines.append(line);
  }
  list.prepend(lines);
  while (list.children.length > MOST) list.lastElementChild?.remove();
}

followFleet(only, (events) => {
  showStates(events);
  showLines(events);
  // For the page's other scripts.
  for (const event of events) document.dispatchEvent(new CustomEvent("fleet", { detail: event }));
});
