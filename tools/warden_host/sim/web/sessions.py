"""Who may press keys: a page that was opened with the link that the terminal shows.

The link's key stands behind the # of the address, which no browser sends to a server or to another
page. The page gives it for a session, once: the link is worth nothing then, and a new one is
shown. The session's token is kept by the browser for this address and port alone and sent in a
header of each request. A cookie would go to every port of this machine, where other users may
listen.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable

MOST = 16  # sessions; the oldest ends
_SIZE = 32  # bytes


class Sessions:
    """show(key): shows the person a link with a new key."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._sessions: OrderedDict[bytes, None] = OrderedDict()
        self._key = ""
        self._renew()

    def enter(self, key: str) -> str:
        """Return the token of a new session, or "" for a key that is not the newest link's."""
        if not hmac.compare_digest(_hash(key), _hash(self._key)):
            return ""
        self._renew()
        token = secrets.token_urlsafe(_SIZE)
        self._sessions[_hash(token)] = None
        while len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return token

    def knows(self, token: str) -> bool:
        """Return whether a token is a session's. Only hashes are kept, and looked up."""
        return _hash(token) in self._sessions

    def _renew(self) -> None:
        self._key = secrets.token_urlsafe(_SIZE)
        self._show(self._key)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
