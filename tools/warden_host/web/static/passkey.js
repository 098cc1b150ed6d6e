// @ts-check
/**
 * Logs in by a passkey, and registers one: the forms with data-passkey.
 *
 * A form's fields go to data-ask, which returns the question; the authenticator's answer goes to
 * data-send, which says where to go on. Without the script the forms stay hidden.
 */

/** @param {string} path @param {object} body @returns {Promise<any>} */
async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (answer.status === 401) location.assign("/login");
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error ?? "refused");
  return found;
}

/** @param {string} kind @param {any} options @returns {Promise<PublicKeyCredential>} */
async function question(kind, options) {
  const found =
    kind === "login"
      ? await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) })
      : await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
  return /** @type {PublicKeyCredential} */ (found);
}

/** @param {HTMLFormElement} form */
async function run(form) {
  const { passkey = "", ask = "", send = "" } = form.dataset;
  const fields = Object.fromEntries(new FormData(form));
  const { options } = await post(ask, fields);
  const credential = await question(passkey, options);
  const { to } = await post(send, { ...fields, credential: credential.toJSON() });
  location.assign(to);
}

for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (document.querySelectorAll("form[data-passkey]"))) {
  form.hidden = !("PublicKeyCredential" in window && "parseCreationOptionsFromJSON" in PublicKeyCredential);
  const told = /** @type {HTMLElement} */ (form.querySelector("[role=alert]"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    told.textContent = "";
    run(form).catch((/** @type {Error} */ error) => {
      told.textContent = error.name === "NotAllowedError" ? "The passkey was not used." : error.message;
    });
  });
}
