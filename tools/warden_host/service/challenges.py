"""Make challenges that take no memory until they are used: a stranger may ask for any number.

A challenge holds a nonce, its end, and a MAC over both, its purpose and whom it is bound to.
"""

import hashlib
import hmac
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable

from warden_host.errors import HostError

LIFE_S = 300
_NONCE_SIZE = 16
_END_SIZE = 8
_HEAD_SIZE = _NONCE_SIZE + _END_SIZE
_MOST_USED = 4096


class Challenges:
    """The challenges of one `warden serve`.

    clock: steady seconds. A clock that is set would bring back what it has let end.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = secrets.randbits(48)  # so that an end tells nobody how long the machine runs
        self._key = os.urandom(32)
        self._used: OrderedDict[bytes, int] = OrderedDict()
        self._guard = threading.Lock()

    def make(self, purpose: str, bound: str) -> bytes:
        """Return a challenge. bound: the secret of whom it is for, such as a session's token."""
        end = int(self._now()) + LIFE_S
        head = os.urandom(_NONCE_SIZE) + end.to_bytes(_END_SIZE, "big")
        return head + self._mac(head, purpose, bound)

    def check(self, challenge: bytes, purpose: str, bound: str) -> None:
        """Raise passkey-refused unless the challenge is one of make(), and has not ended."""
        head, mac = challenge[:_HEAD_SIZE], challenge[_HEAD_SIZE:]
        right = hmac.compare_digest(mac, self._mac(head, purpose, bound))
        if not right or int.from_bytes(head[_NONCE_SIZE:], "big") <= self._now():
            raise _ended()

    def use(self, challenge: bytes) -> None:
        """Use up a challenge that check() let pass. Raises passkey-refused where it was used."""
        now, end = self._now(), int.from_bytes(challenge[_NONCE_SIZE:_HEAD_SIZE], "big")
        with self._guard:
            while self._used and next(iter(self._used.values())) <= now:
                self._used.popitem(last=False)
            if challenge in self._used or len(self._used) >= _MOST_USED:
                raise _ended()
            self._used[challenge] = end

    def _now(self) -> float:
        return self._start + self._clock()

    def _mac(self, head: bytes, purpose: str, bound: str) -> bytes:
        whom = hashlib.sha256(bound.encode()).digest()
        return hmac.new(self._key, purpose.encode() + b"\0" + whom + head, hashlib.sha256).digest()


def _ended() -> HostError:
    return HostError("passkey-refused", "the question to the passkey has ended or was used")
