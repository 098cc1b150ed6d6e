// @ts-check
/** Shows the progress of a rollout, from the server-sent events of its own stream. */

import { follow } from "./stream.js";

const table = /** @type {HTMLElement} */ (document.getElementById("rollout"));
const bar = /** @type {HTMLProgressElement} */ (document.getElementById("done"));
/** @type {Map<string, HTMLElement>} */
const rows = new Map();
for (const row of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("tr[data-device]"))) {
  rows.set(row.dataset.device ?? "", row);
}
/** @type {Map<string, string>} */
const states = new Map();
/** @type {Map<string, number>} */
const counts = new Map();

/** @param {string} device @param {string} state @param {string} reason @param {string} share */
function note(device, state, reason, share) {
  const before = states.get(device);
  if (before !== state) {
    if (before) counts.set(before, (counts.get(before) ?? 1) - 1);
    counts.set(state, (counts.get(state) ?? 0) + 1);
    states.set(device, state);
  }
  const row = rows.get(device);
  if (!row) return;
  const word = row.querySelector(".word");
  const text = [state, share, reason].filter(Boolean).join(" ");
  if (!word || word.textContent?.trim() === text) return;
  word.textContent = text;
  const since = row.querySelector(".since");
  if (since) since.textContent = "now";
}

let due = 0;

/** Shows the sums, once a frame. */
function showCounts() {
  due ||= requestAnimationFrame(() => {
    due = 0;
    bar.max = Math.max(1, states.size);
    bar.value = counts.get("Accepted") ?? 0;
    const shown = [...counts].filter(([, number]) => number);
    const place = document.getElementById("counts");
    if (place) place.textContent = shown.map(([state, number]) => `${number} ${state}`).join(", ");
  });
}

follow(`/rollout/${table.dataset.rollout}/live`, (line) => {
  for (const [device, , state, reason] of line.targets ?? []) note(device, state, reason, "");
  if (line.device) {
    const share = line.state === "Downloading" && line.total ? `${Math.floor((100 * line.done) / line.total)} %` : "";
    note(line.device, line.state, line.reason, share);
  }
  showCounts();
  if (!["done", "stopped", "resting"].includes(line.state) || line.device) return false;
  const link = /** @type {HTMLElement} */ (document.getElementById("link"));
  const state = document.getElementById("state");
  if (state) state.textContent = [line.state, line.reason].filter(Boolean).join(": ");
  link.textContent =
    line.state === "resting"
      ? "only devices that are away are left: they get it on their next contact"
      : `the rollout is ${line.state}`;
  return true;
});
