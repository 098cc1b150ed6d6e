// @ts-check

/**
 * Counts down in an element.
 *
 * Two clocks are asked and the one that is further counts: one stands still while a machine
 * sleeps, the other one can be set.
 *
 * @param {HTMLElement} place that shows what is left; it may leave the page meanwhile
 * @param {number} left in seconds
 * @param {() => void} end
 */
export function countDown(place, left, end) {
  const [steady, wall] = [performance.now(), Date.now()];

  function tick() {
    if (!place.isConnected) return;
    const passed = Math.max(performance.now() - steady, Date.now() - wall) / 1000;
    const rest = Math.ceil(left - passed);
    if (rest <= 0) {
      end();
      return;
    }
    place.textContent = rest < 60 ? `${rest} s` : `${Math.floor(rest / 60)} min ${rest % 60} s`;
    setTimeout(tick, 1000);
  }

  tick();
}
