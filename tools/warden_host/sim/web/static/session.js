// @ts-check
/** The session of this page: the link's key is given for it, once; it is kept for this tab alone. */

const KEPT = "session";
const LEAST = 40; // characters of a key

/** A refusal of the simulator. */
export class Refused extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Return the key of a link, which stands behind the # of the address; "" for another address. */
export function keyInAddress() {
  const key = location.hash.slice(1);
  return key.length >= LEAST ? key : "";
}

/** Give the key of the link for a session, and leave none in the address. */
export async function enter() {
  const key = keyInAddress();
  if (!key) return;
  try {
    const answer = await ask("POST", "/enter", { key });
    sessionStorage.setItem(KEPT, (await answer.json()).session);
  } catch (error) {
    // A link that was used, in a tab that has a session.
    if (!(error instanceof Refused && sessionStorage.getItem(KEPT))) throw error;
  }
  history.replaceState(null, "", location.pathname);
}

/**
 * Ask the simulator. Raises Refused, and TypeError where nothing answers.
 *
 * @param {"GET" | "POST"} method
 * @param {string} path
 * @param {Object<string, unknown>} [body]
 * @returns {Promise<Response>}
 */
export async function ask(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: { Authorization: `Bearer ${sessionStorage.getItem(KEPT) ?? ""}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
    credentials: "omit",
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, told.text ?? `the simulator answered ${answer.status}`);
  }
  return answer;
}

/**
 * Read server-sent events until the stream ends. EventSource sends no header, so it can't be used.
 *
 * @param {string} path
 * @param {(event: any) => void} take
 * @param {() => void} opened called once the stream has begun
 */
export async function follow(path, take, opened) {
  const answer = await ask("GET", path);
  if (!answer.body) return;
  opened();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop() ?? "";
    for (const part of parts) take(JSON.parse(part.slice("data: ".length)));
  }
}
