// @ts-check
import { Board } from "./board.js";
import { enter, follow, keyInAddress, Refused } from "./session.js";

const RETRY_MS = 1000;

const link = /** @type {HTMLElement} */ (document.getElementById("link"));
const list = /** @type {HTMLElement} */ (document.getElementById("boards"));
const template = /** @type {HTMLTemplateElement} */ (document.getElementById("board"));
/** @type {Map<string, Board>} */
const boards = new Map();

/** @param {string} text @param {boolean} [lost] */
function tell(text, lost = false) {
  link.textContent = text;
  link.className = lost ? "link lost" : "link";
}

/** @param {{board: string, part: string, is: unknown}} event */
function take(event) {
  let board = boards.get(event.board);
  if (!board) {
    const made = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    const element = /** @type {HTMLElement} */ (made.firstElementChild);
    list.append(made);
    board = new Board(event.board, element, () => tell("no connection to the simulator", true));
    boards.set(event.board, board);
  }
  board.show(event.part, event.is);
}

/** @param {unknown} error */
function refused(error) {
  if (!(error instanceof Refused) || error.status !== 401) return false;
  tell("Open the newest link that `warden run` has printed: each opens one tab, once.", true);
  return true;
}

async function live() {
  try {
    await enter();
    await follow("/live", take, () => {
      for (const board of boards.values()) board.begin();
      tell("live");
    });
  } catch (error) {
    if (refused(error)) return;
  }
  tell("no connection to the simulator: trying again", true);
  setTimeout(live, RETRY_MS);
}

// Another link in the same tab changes nothing but the part behind the #.
addEventListener("hashchange", () => keyInAddress() && location.reload());
setInterval(() => boards.forEach((board) => board.tick()), 1000);
live();
