// @ts-check
/** Counts down what is left of a device's code, and shows what happens at its gate. */

import { countDown } from "./countdown.js";

const gate = /** @type {HTMLElement} */ (document.getElementById("gate"));
const facts = /** @type {HTMLElement} */ (document.querySelector("table.facts"));

function count() {
  const place = document.getElementById("left");
  if (place) countDown(place, Number(place.dataset.left), renew);
}

let due = 0;

/** Asks for the part of the page anew, once for events that come together. */
function renew() {
  due ||= setTimeout(async () => {
    due = 0;
    const address = `/device/${encodeURIComponent(facts.dataset.device ?? "")}/gate`;
    const answer = await fetch(address, { redirect: "error" }).catch(() => null);
    if (!answer?.ok) return; // the stream tells why
    const made = new DOMParser().parseFromString(await answer.text(), "text/html");
    gate.replaceChildren(...made.body.children);
    count();
  }, 200);
}

document.addEventListener("fleet", (message) => {
  const { kind, name, code } = /** @type {CustomEvent} */ (message).detail;
  if (kind === "otp" || kind === "session" || name === "gate" || /^otp-/.test(code ?? "")) renew();
});
count();
