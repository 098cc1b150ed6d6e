"""Exit codes of `warden`, by the kind of error; docs/commands.md lists them."""

from warden_host.errors import HostError, LinkError, PeerError

DONE = 0
FAILED = 1
USAGE = 2
OFFLINE = 3
REFUSED = 4
UNKNOWN = 5
TIMED_OUT = 6
INTERRUPTED = 130
# Exit code → the word for it in JSON.
KINDS = {
    FAILED: "failed",
    USAGE: "usage",
    OFFLINE: "offline",
    REFUSED: "refused",
    UNKNOWN: "unknown",
    TIMED_OUT: "timed-out",
    INTERRUPTED: "interrupted",
}
_CODES = {
    USAGE: "bad-argument bad-json bad-list bad-name reserved-command",
    OFFLINE: "board-lost board-silent no-session not-serving unreachable",
    REFUSED: "owner-only revoked role-missing",
    UNKNOWN: """
        app-unknown device-unknown fleet-missing gateway-unknown group-unknown operator-unknown
        port-unknown
        release-missing rollout-unknown token-unknown
    """,
    TIMED_OUT: "timed-out",
    INTERRUPTED: "interrupted",
}
_BY_CODE = {code: number for number, codes in _CODES.items() for code in codes.split()}


def of(error: HostError) -> int:
    """Return the exit code of an error: its code's, else REFUSED for a peer's, else FAILED."""
    refused = isinstance(error, PeerError) and not isinstance(error, LinkError)
    return _BY_CODE.get(error.code, REFUSED if refused else FAILED)
