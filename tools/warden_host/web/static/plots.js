// @ts-check
/** Draws a device's telemetry, and adds to plots and tables what comes live. */

import uPlot from "/assets/uplot.js";

/** @typedef {{event: string, field: string, points: [number, number][]}} Series */

const MOST = 500; // points
const ROWS = 20; // of a table
const HEIGHT = 180;
const DAY_S = 86400;
const [clock, calendar] = [{ timeStyle: "medium" }, { dateStyle: "short", timeStyle: "short" }].map(
  (style) => new Intl.DateTimeFormat(undefined, /** @type {Intl.DateTimeFormatOptions} */ (style)),
);
const facts = /** @type {HTMLElement} */ (document.querySelector("table.facts"));
const device = facts.dataset.device ?? "";

/** One series: its numbers, its plot, its table. */
class Plot {
  /** @param {HTMLElement} section @param {Series} series */
  constructor(section, series) {
    this.section = section;
    this.times = series.points.map((point) => point[0]);
    this.values = series.points.map((point) => point[1]);
    const place = /** @type {HTMLElement} */ (section.querySelector(".plot"));
    const style = getComputedStyle(document.documentElement);
    const [text, line, link] = ["--text", "--line", "--link"].map((name) => style.getPropertyValue(name));
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    /** @param {uPlot} drawn @param {number[]} splits in seconds */
    const times = (drawn, splits) => {
      const { min = 0, max = 0 } = drawn.scales.x;
      const form = (max ?? 0) - (min ?? 0) < DAY_S ? clock : calendar;
      return splits.map((one) => form.format(one * 1000));
    };
    /** @type {uPlot.Options} */
    const options = {
      width: place.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      axes: [{ ...axis, values: times, space: 120 }, { ...axis, size: 60 }],
      series: [{}, { stroke: link, width: 2, points: { show: this.times.length < 30 } }],
    };
    this.drawn = new uPlot(options, [this.times, this.values], place);
    new ResizeObserver(() => {
      if (place.clientWidth) this.drawn.setSize({ width: place.clientWidth, height: HEIGHT });
    }).observe(place);
    this.due = 0;
  }

  /** @param {number} time in seconds @param {number} value */
  add(time, value) {
    if (time <= (this.times.at(-1) ?? 0)) return; // the same event, which came to another application
    this.times.push(time);
    this.values.push(value);
    if (this.times.length > MOST) {
      this.times.shift();
      this.values.shift();
    }
    const shown = String(Number(value.toPrecision(6)));
    const newest = this.section.querySelector(".newest");
    if (newest) newest.textContent = shown;
    const body = this.section.querySelector("tbody");
    if (body) {
      const row = document.createElement("tr");
      for (const one of [new Date(time * 1000).toLocaleString("sv"), shown]) {
        row.append(Object.assign(document.createElement("td"), { textContent: one }));
      }
      body.prepend(row);
      while (body.children.length > ROWS) body.lastElementChild?.remove();
    }
    this.due ||= requestAnimationFrame(() => {
      this.due = 0;
      this.drawn.setData([this.times, this.values]);
    });
  }
}

/** @param {any} value @param {string[]} path @returns {number | null} */
function numberAt(value, path) {
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return null;
    value = value[key];
  }
  if (typeof value === "boolean") return Number(value);
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

const address = `/device/${encodeURIComponent(device)}/telemetry`;
const answer = await fetch(address, { redirect: "error" }).catch(() => null); // the session ended
/** @type {Series[]} */
const found = answer?.ok ? await answer.json() : [];
/** @type {Map<string, Plot[]>} */
const plots = new Map();
for (const section of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("section.series"))) {
  const { event = "", field = "" } = section.dataset;
  const series = found.find((one) => one.event === event && one.field === field);
  if (series) plots.set(event, [...(plots.get(event) ?? []), new Plot(section, series)]);
}

document.addEventListener("fleet", (message) => {
  const event = /** @type {CustomEvent} */ (message).detail;
  if (event.device !== device || event.kind !== "event") return;
  for (const plot of plots.get(event.name) ?? []) {
    const value = numberAt(event.body, (plot.section.dataset.field ?? "").split("."));
    if (value !== null) plot.add(event.time, value);
  }
});
