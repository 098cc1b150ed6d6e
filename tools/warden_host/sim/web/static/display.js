// @ts-check
/**
 * Draws a display as the model of its chip has it.
 *
 * @typedef {{kind: string, lines: string[], cells?: string[][], own?: (number | null)[][], characters?: number[][],
 *   on?: boolean, light?: boolean, cursor?: [number, number] | null, width?: number, height?: number,
 *   pixels?: string, contrast?: number}} Shown
 */

const COLUMNS = 16;

/**
 * @param {HTMLElement} screen
 * @param {Shown} shown
 */
export function draw(screen, shown) {
  const cells = /** @type {HTMLElement} */ (screen.querySelector(".cells"));
  const canvas = /** @type {HTMLCanvasElement} */ (screen.querySelector(".pixels"));
  const text = /** @type {HTMLElement} */ (screen.querySelector(".shown"));
  screen.dataset.kind = shown.kind;
  screen.hidden = shown.kind === "none";
  canvas.hidden = shown.kind !== "ssd1306";
  cells.hidden = !canvas.hidden || screen.hidden;
  if (!canvas.hidden) drawPixels(canvas, shown);
  else drawCells(cells, shown);
  const said = `Display: ${shown.lines.filter(Boolean).join(" / ") || "empty"}`;
  if (text.textContent !== said) text.textContent = said; // a screen reader says each change once
}

/** @param {HTMLElement} element @param {Shown} shown */
function drawCells(element, shown) {
  const rows = shown.cells ?? shown.lines.map((line) => [...line.slice(0, COLUMNS).padEnd(COLUMNS)]);
  element.classList.toggle("dark", shown.light === false);
  element.replaceChildren(
    ...rows.map((row, y) => {
      const line = document.createElement("div");
      line.append(
        ...row.map((character, x) => {
          const cell = document.createElement("span");
          const own = shown.own?.[y][x] ?? null;
          if (own === null) cell.textContent = character;
          else cell.append(drawCharacter(shown.characters?.[own] ?? []));
          if (shown.cursor?.[0] === x && shown.cursor[1] === y) cell.className = "cursor";
          return cell;
        }),
      );
      return line;
    }),
  );
}

/** @param {number[]} rows of five pixels */
function drawCharacter(rows) {
  const canvas = document.createElement("canvas");
  canvas.width = 5;
  canvas.height = 8;
  const context = canvas.getContext("2d");
  if (context) context.fillStyle = "#1a2a08";
  rows.forEach((row, y) => {
    for (let x = 0; x < 5; x++) if ((row >> (4 - x)) & 1) context?.fillRect(x, y, 1, 1);
  });
  return canvas;
}

/** @param {HTMLCanvasElement} canvas @param {Shown} shown */
function drawPixels(canvas, shown) {
  const width = shown.width ?? 0;
  const height = shown.height ?? 0;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  if (!context || !width || !height) return;
  const picture = context.createImageData(width, height);
  const columns = atob(shown.pixels ?? "");
  const bright = 140 + Math.round(((shown.contrast ?? 255) / 255) * 115);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const lit = (columns.charCodeAt((y >> 3) * width + x) >> (y & 7)) & 1;
      picture.data.set(lit ? [bright, bright, 255, 255] : [10, 13, 18, 255], (y * width + x) * 4);
    }
  }
  context.putImageData(picture, 0, 0);
}
