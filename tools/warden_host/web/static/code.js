// @ts-check
/**
 * Counts a code's time down, and leaves its page when it ends.
 *
 * Two clocks are asked and the one that is further counts: one stands still while a machine
 * sleeps, the other one can be set.
 */

const shown = /** @type {HTMLElement | null} */ (document.getElementById("code"));
const place = /** @type {HTMLElement | null} */ (document.getElementById("left"));
const left = Number(shown?.dataset.left ?? place?.dataset.left ?? 0);
const [steady, wall] = [performance.now(), Date.now()];

function end() {
  if (shown) {
    shown.remove();
    location.replace(shown.dataset.back ?? "/");
  } else if (place) {
    place.textContent = "0 s";
  }
}

function tick() {
  const passed = Math.max(performance.now() - steady, Date.now() - wall) / 1000;
  const rest = Math.ceil(left - passed);
  if (rest <= 0) {
    end();
    return;
  }
  if (place) place.textContent = rest < 60 ? `${rest} s` : `${Math.floor(rest / 60)} min ${rest % 60} s`;
  setTimeout(tick, 1000);
}

if (place && left) tick();
// A page that the browser kept and shows again, such as after "Back", shows no code.
addEventListener("pagehide", () => shown?.remove());
