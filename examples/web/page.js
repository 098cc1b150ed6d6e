// @ts-check
/**
 * Commands a device through the API of `warden serve --web`, and shows its events: docs/api.md.
 *
 * The token stays in this page's memory: it is in no address, no cookie and no storage. What devices
 * send is put into the page as text, never as markup.
 *
 * @typedef {{device: string, type: string, state: string, commands: string[]}} Row
 * @typedef {{kind: string, id: string, type: string, proven: boolean}} Publisher
 * @typedef {{kind: string, device?: string, name?: string, body?: unknown, state?: string, time?: number,
 *   publisher?: Publisher, text?: string, problem?: {title: string}}} Message
 */

const MOST = 50; // lines of events

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`no ${id}`);
  return found;
}

const address = element("address", HTMLInputElement);
const token = element("token", HTMLInputElement);
const state = element("state", HTMLElement);
const command = element("command", HTMLFormElement);
const device = element("device", HTMLSelectElement);
const name = element("name", HTMLSelectElement);
const args = element("args", HTMLInputElement);
const answer = element("answer", HTMLOutputElement);
const events = element("events", HTMLOListElement);

/** @type {Row[]} */
let rows = [];
/** @type {WebSocket | null} */
let socket = null;

/**
 * Call the API; throw what it refuses.
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
async function call(path, body) {
  const headers = new Headers({ Authorization: `Bearer ${token.value.trim()}` });
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const response = await fetch(address.value + path, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
  });
  const found = await response.json();
  if (!response.ok) throw new Error(`${found.title} (${found.code})`);
  return found;
}

/** @param {HTMLSelectElement} list @param {string[]} values */
function fill(list, values) {
  list.replaceChildren(...values.map((value) => new Option(value, value)));
}

function showCommands() {
  fill(name, rows.find((row) => row.device === device.value)?.commands ?? []);
}

async function connect() {
  socket?.close();
  state.textContent = "Connecting …";
  rows = [];
  let after = "";
  do {
    const page = await call(`/devices${after && `?after=${encodeURIComponent(after)}`}`);
    rows.push(...page.devices);
    after = page.next ?? "";
  } while (after);
  fill(device, rows.map((row) => row.device));
  showCommands();
  command.hidden = false;
  listen();
}

/** Show events as they come. The token is the first message: an address would be in logs. */
function listen() {
  const opened = new WebSocket(`${address.value.replace(/^http/, "ws")}/events`);
  socket = opened;
  opened.onopen = () => opened.send(JSON.stringify({ kind: "token", token: token.value.trim() }));
  opened.onmessage = (received) => {
    /** @type {Message} */
    const message = JSON.parse(received.data);
    if (message.kind === "ready") state.textContent = `Connected: ${rows.length} devices.`;
    else if (message.kind === "refused") state.textContent = message.problem?.title ?? "Refused.";
    else if (message.kind !== "answer") show(message);
  };
  opened.onclose = () => {
    if (opened === socket) state.textContent = "Disconnected: connect again.";
  };
}

/** @param {Message} message */
function show(message) {
  const line = document.createElement("li");
  const moment = new Date((message.time ?? 0) * 1000).toLocaleTimeString();
  const what = message.kind === "state" ? message.state : `${message.kind} ${message.name ?? ""}`;
  const body = message.body === undefined ? "" : JSON.stringify(message.body);
  line.textContent = [moment, message.device, what, body, message.text].filter(Boolean).join("  ");
  if (message.publisher?.proven === false) {
    line.className = "unproven";
    line.textContent += "  (nothing proves who sent it)";
  }
  events.prepend(line);
  while (events.children.length > MOST) events.lastElementChild?.remove();
}

async function send() {
  answer.textContent = "…";
  const found = await call(`/devices/${encodeURIComponent(device.value)}/commands`, {
    command: name.value,
    args: JSON.parse(args.value),
  });
  answer.textContent = found.ok
    ? `${found.device} obeyed: ${JSON.stringify(found.result)}`
    : `${found.device} refused: ${found.error}`;
}

/** @param {HTMLFormElement} form @param {() => Promise<void>} action @param {HTMLElement} place */
function on(form, action, place) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await action();
    } catch (error) {
      place.textContent = error instanceof TypeError ? "The API can't be reached from here." : String(error);
    }
  });
}

on(element("connect", HTMLFormElement), connect, state);
on(command, send, answer);
device.addEventListener("change", showCommands);

export {};
