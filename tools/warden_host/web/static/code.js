// @ts-check
/** Takes a code from its page when its time is over. */

import { countDown } from "./countdown.js";

const shown = /** @type {HTMLElement} */ (document.getElementById("code"));
const place = /** @type {HTMLElement} */ (document.getElementById("left"));

countDown(place, Number(shown.dataset.left), () => {
  shown.remove();
  location.replace(shown.dataset.next ?? "/");
});
// A page that the browser kept and shows again, such as after "Back", shows no code.
addEventListener("pagehide", () => shown.remove());
