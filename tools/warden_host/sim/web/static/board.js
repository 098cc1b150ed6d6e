// @ts-check
import { draw } from "./display.js";
import { Flash } from "./flash.js";
import { ask } from "./session.js";

const MOST = 400; // lines
const DOWN_MS = 120; // how long a key looks pressed

/** One simulated device on the page. */
export class Board {
  /** @param {string} name @param {HTMLElement} element @param {(error: unknown) => void} lost */
  constructor(name, element, lost) {
    this.element = element;
    this.lost = lost;
    this.path = `/board/${encodeURIComponent(name)}`;
    /** @type {Promise<unknown>} */
    this.sent = Promise.resolve(); // orders arrive in the order in which they were given
    this.behind = 0;
    const title = this.find("h2");
    title.textContent = name;
    title.id = `board-${name}`;
    element.setAttribute("aria-labelledby", title.id);
    this.log = this.find(".log");
    this.lines = this.find(".log ol");
    this.flash = new Flash(element, this.path, (error) => this.failed(error));
    for (const button of element.querySelectorAll("button[data-order]")) {
      const order = /** @type {HTMLElement} */ (button).dataset.order ?? "";
      button.addEventListener("click", () => this.order(order, order === "cut" ? { after: 0 } : {}));
    }
    for (const button of element.querySelectorAll("button[data-shift]")) {
      const shift = Number(/** @type {HTMLElement} */ (button).dataset.shift);
      button.addEventListener("click", () => {
        this.input("shift").value = String(shift);
        this.order("clock", { shift });
      });
    }
    this.form("cut", () => this.order("cut", { after: this.input("after").valueAsNumber }));
    this.form("shift", () => this.order("clock", { shift: this.input("shift").valueAsNumber }));
    this.form("network", () =>
      this.order("network", { mode: this.input("mode").value, delay: this.input("delay").valueAsNumber }),
    );
    const only = /** @type {HTMLInputElement} */ (this.find(".only input"));
    only.addEventListener("change", () => this.log.classList.toggle("only", only.checked));
    this.find(".keypad").addEventListener("keydown", (event) => this.typed(event));
  }

  /** @param {string} selector */
  find(selector) {
    return /** @type {HTMLElement} */ (this.element.querySelector(selector));
  }

  /** @param {string} name */
  input(name) {
    return /** @type {HTMLInputElement} */ (this.find(`[name="${name}"]`));
  }

  /** @param {string} name @param {() => void} act */
  form(name, act) {
    this.find(`form.${name}`).addEventListener("submit", (event) => {
      event.preventDefault();
      act();
    });
  }

  /** @param {string} name @param {Object<string, unknown>} fields */
  order(name, fields) {
    this.sent = this.sent
      .then(() => ask("POST", `${this.path}/${name}`, fields))
      .then(() => this.tell(""))
      .catch((error) => this.failed(error));
  }

  /** @param {unknown} error */
  failed(error) {
    if (error instanceof TypeError) this.lost(error);
    this.tell(error instanceof Error ? error.message : String(error));
  }

  /** @param {string} text */
  tell(text) {
    this.find(".error").textContent = text;
  }

  /** @param {string} key */
  press(key) {
    const button = this.element.querySelector(`.keypad [data-key="${CSS.escape(key)}"]`);
    button?.classList.add("down");
    setTimeout(() => button?.classList.remove("down"), DOWN_MS);
    this.order("keys", { keys: key });
  }

  /**
   * Keys of a keyboard, while one of the keypad has the focus; Enter and space press that one.
   *
   * @param {KeyboardEvent} event
   */
  typed(event) {
    const key = event.key === "Backspace" ? "*" : event.key;
    if (event.ctrlKey || event.altKey || event.metaKey || key.length > 1) return;
    if (!this.element.querySelector(`.keypad [data-key="${CSS.escape(key)}"]`)) return;
    event.preventDefault();
    this.press(key);
  }

  /** Forget the log: the stream begins again. */
  begin() {
    this.lines.replaceChildren();
  }

  /** @param {string} part @param {any} is */
  show(part, is) {
    if (part === "log") this.showLog(is);
    else if (part === "display") draw(this.find(".screen"), is);
    else if (part === "keypad") this.showKeypad(is);
    else if (part === "pins") this.showPins(is);
    else if (part === "power") this.showPower(is);
    else if (part === "network") this.showNetwork(is);
    else if (part === "clock") this.showClock(is);
    else if (part === "flash") {
      this.flash.show(is);
      this.find(".armed").textContent = is.armed ? `armed: ${is.armed} more` : "";
    }
  }

  /** @param {[number, string, string, string][]} lines */
  showLog(lines) {
    const list = this.log;
    const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
    for (const [, text, mark, means] of lines) {
      const line = document.createElement("li");
      line.className = mark;
      line.textContent = ["refused", "network", "board"].includes(mark) ? `${mark}: ${text}` : text;
      if (means) {
        const note = document.createElement("span");
        note.className = "means";
        note.textContent = ` (${means})`;
        line.append(note);
      }
      this.lines.append(line);
    }
    while (this.lines.children.length > MOST) this.lines.firstElementChild?.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  /** @param {{keys: string, columns: number, gated: boolean}} is */
  showKeypad(is) {
    const keypad = this.find(".keypad");
    this.find(".keypad-hint").textContent = !is.keys
      ? "This board has no keypad that can be pressed here."
      : is.gated
        ? ""
        : "Nothing reads this keypad: the device's policy asks for no code.";
    const shown = [...keypad.children].map((child) => child.textContent).join("");
    if (shown === is.keys) return;
    keypad.className = `keypad c${is.columns === 4 ? 4 : 3}`;
    keypad.replaceChildren(
      ...[...is.keys].map((key) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = button.dataset.key = key;
        if (key === "*") button.setAttribute("aria-label", "star");
        if (key === "#") button.setAttribute("aria-label", "hash");
        button.addEventListener("click", () => this.press(key));
        return button;
      }),
    );
  }

  /** @param {Object<string, number>} is */
  showPins(is) {
    const names = Object.keys(is);
    this.find(".pins").replaceChildren(
      ...(names.length ? names : [""]).map((name) => {
        const item = document.createElement("li");
        item.className = is[name] ? "high" : name ? "low" : "none";
        item.textContent = name ? `${name}: ${is[name] ? "high" : "low"}` : "the application has set none";
        return item;
      }),
    );
  }

  /** @param {{on: boolean, why: string}} is */
  showPower(is) {
    const power = this.find(".power");
    power.textContent = is.on ? "on" : `off: ${is.why || "it starts again"}`;
    power.className = `power ${is.on ? "on" : "off"}`;
  }

  /** @param {{mode: string, delay: number}} is */
  showNetwork(is) {
    this.input("mode").value = is.mode;
    this.input("delay").value = String(is.delay);
  }

  /** @param {{now: number, can_be_set: boolean}} is */
  showClock(is) {
    this.behind = is.now - Date.now() / 1000;
    this.tick();
    for (const one of this.find("form.shift").querySelectorAll("input, button")) {
      /** @type {HTMLButtonElement} */ (one).disabled = !is.can_be_set;
    }
    if (!is.can_be_set) this.tell("libfaketime is not installed: the clock can't be set");
  }

  tick() {
    const now = new Date(Date.now() + this.behind * 1000);
    this.find(".clock").textContent = `${now.toISOString().replace("T", " ").slice(0, 19)} UTC`;
  }
}
