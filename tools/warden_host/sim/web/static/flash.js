// @ts-check
import { ask } from "./session.js";

const WIDTH = 16; // bytes a row
const PAUSE_MS = 400; // between two looks at a flash that changes

/** Shows the files of a board's flash, and their bytes. */
export class Flash {
  /** @param {HTMLElement} board @param {string} path @param {(error: unknown) => void} failed */
  constructor(board, path, failed) {
    this.path = path;
    this.failed = failed;
    /** @param {string} selector */
    const find = (selector) => /** @type {HTMLElement} */ (board.querySelector(selector));
    this.details = /** @type {HTMLDetailsElement} */ (find("details.flash"));
    this.count = find(".operations");
    this.newest = find(".newest");
    this.rows = find(".files tbody");
    this.opened = find(".opened");
    this.bytes = find(".bytes");
    this.more = find("button.more");
    this.file = "";
    this.next = 0;
    this.looks = false;
    this.before = find("button.before");
    this.further = find("button.further");
    this.pages = [""]; // where each page of files begins, up to the one that is shown
    this.following = "";
    this.before.addEventListener("click", () => this.turn(this.pages.slice(0, -1)));
    this.further.addEventListener("click", () => this.turn([...this.pages, this.following]));
    this.details.addEventListener("toggle", () => this.look());
    this.more.addEventListener("click", () => this.read(this.file, this.next));
  }

  /** @param {{count: number, newest: string[]}} state */
  show(state) {
    this.count.textContent = String(state.count);
    this.newest.replaceChildren(
      ...state.newest.map((text) => {
        const line = document.createElement("li");
        line.textContent = text;
        return line;
      }),
    );
    this.look();
  }

  /** List the files, soon; once for many changes. */
  look() {
    if (!this.details.open || this.looks) return;
    this.looks = true;
    setTimeout(() => {
      this.looks = false;
      this.list().catch(this.failed);
    }, PAUSE_MS);
  }

  /** @param {string[]} pages */
  turn(pages) {
    this.pages = pages;
    this.list().catch(this.failed);
  }

  async list() {
    const page = this.pages[this.pages.length - 1] ?? "";
    const found = await (await ask("GET", `${this.path}/flash?after=${page}`)).json();
    if (page !== this.pages[this.pages.length - 1]) return; // turned since
    this.following = found.next;
    this.before.hidden = this.pages.length < 2;
    this.further.hidden = !found.next;
    const held = document.activeElement;
    const had = held instanceof HTMLElement && this.rows.contains(held) ? held.dataset.path : undefined;
    this.rows.replaceChildren(
      ...found.files.map((/** @type {[string, number, number]} */ [path, size, changed]) => {
        const row = document.createElement("tr");
        const open = document.createElement("button");
        open.type = "button";
        open.textContent = open.dataset.path = path;
        open.addEventListener("click", () => this.read(path, 0));
        for (const part of [open, String(size), new Date(changed * 1000).toTimeString().slice(0, 8)]) {
          const cell = document.createElement("td");
          cell.append(part);
          row.append(cell);
        }
        if (path === had) setTimeout(() => open.focus());
        return row;
      }),
    );
  }

  /** @param {string} file @param {number} from */
  async read(file, from) {
    try {
      const path = file.split("/").map(encodeURIComponent).join("/");
      const answer = await ask("GET", `${this.path}/flash${path}?from=${from}`);
      const found = await answer.json();
      const size = found.hex.length / 2;
      this.file = file;
      this.next = from + size;
      this.opened.textContent = size
        ? `${file}: bytes ${from} to ${this.next - 1} of ${found.size}`
        : `${file}: no bytes at ${from}`;
      this.bytes.textContent = dump(found.hex, from);
      this.bytes.hidden = false;
      this.more.hidden = this.next >= found.size;
    } catch (error) {
      this.failed(error);
    }
  }
}

/**
 * Return rows of an offset, the bytes in hex, and those that can be printed.
 *
 * @param {string} hex
 * @param {number} from
 */
export function dump(hex, from) {
  const bytes = (hex.match(/../g) ?? []).map((byte) => parseInt(byte, 16));
  const rows = [];
  for (let at = 0; at < bytes.length; at += WIDTH) {
    const row = bytes.slice(at, at + WIDTH);
    const left = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const right = row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    rows.push(`${(from + at).toString(16).padStart(6, "0")}  ${left.padEnd(WIDTH * 3)} ${right}`);
  }
  return rows.join("\n");
}
