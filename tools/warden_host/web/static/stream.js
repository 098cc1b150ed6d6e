// @ts-check
/**
 * Follows a stream of server-sent events, and says in #link whether it is there.
 *
 * A page that missed something is loaded again, unless something was typed into it: what happened
 * in between is in the page, not in the events.
 */

const RETRY_MS = 2000;

let typed = false;
addEventListener("input", () => {
  typed = true;
});

/**
 * @param {string} path of the stream
 * @param {(line: any) => boolean | void} show takes each line; true ends the stream for good
 */
export function follow(path, show) {
  const link = /** @type {HTMLElement} */ (document.getElementById("link"));
  let lost = document.hidden; // events were missed since the page was made
  let over = false;
  /** @type {EventSource | null} */
  let source = null;

  function connect() {
    if (document.hidden || source || over) return;
    const made = new EventSource(path);
    source = made;
    made.onopen = () => {
      if (lost && !typed) {
        location.reload();
        return;
      }
      link.textContent = lost ? "live; open the page again for what happened in between" : "live";
      link.className = "link";
    };
    made.onmessage = (message) => {
      if (!show(JSON.parse(message.data))) return;
      over = true;
      disconnect();
    };
    made.onerror = () => {
      disconnect();
      link.textContent = "no connection to the fleet: trying again";
      link.className = "link lost";
      fetch("/session").then(
        (answer) => {
          if (answer.status === 401) location.assign("/login");
          else setTimeout(connect, RETRY_MS);
        },
        () => setTimeout(connect, RETRY_MS),
      );
    };
  }

  function disconnect() {
    lost = true;
    source?.close();
    source = null;
  }

  // A browser opens six connections to a server at most, and each page that shows events holds one.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  connect();
}
