"""Sessions that outlive deep sleep: no hand-shake at a wake-up, and no write to the flash.

What is kept is no secret: two hashes that were sent, from which and from the application's key in
the vault the session's keys are derived again, and the counters. It is authenticated by the
vault's key, bound to the vault's generation, and erased before it is used: no counter can be used
twice, as long as the memory itself is not played back (docs/threat-model.md).
"""

from micropython import const

from ..crypto import ct
from ..errors import PeerError
from ..wire import cbor
from .message import Message
from .session import Keys, Session

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ..vault import Vault
    from ..wire import envelope

    class Memory(Protocol):
        def read(self) -> bytes: ...
        def write(self, data: bytes) -> bool: ...


_FORMAT = const(2)
_TAG = const(32)
_PROOF_MS = const(8000)  # without a message in a resumed session there is a new hello


class ResumableSession(Session):
    """A session that is suspended before deep sleep and resumed after it."""

    _salt = b""  # SHA-256 of the hello and of the welcome
    _state: "list[Any] | None" = None  # of resume(), until the first connection
    _state_ms = 0
    _proof_ms: "int | None" = None  # when there is a new hello if nothing opened before

    def on_welcome(
        self, parsed: "envelope.Envelope", digest: bytes, now_ms: int
    ) -> "tuple[bytes, int] | None":
        hello = self._digest
        found = super().on_welcome(parsed, digest, now_ms)
        if found is not None:
            self._salt = hello + digest
        return found

    def start(self, now_ms: int) -> None:
        """Go on in the resumed session once; else as Session.start()."""
        state, self._state, self._proof_ms = self._state, None, None
        if state is None:
            return super().start(now_ms)
        _, self._salt, next_up, next_down, last_tag, age = state
        hello, self._welcome_digest = self._salt[:32], self._salt[32:]
        keys = Keys(self._key, self.kid, self._info, hello, self._welcome_digest)
        keys.next_up, keys.last_down, keys.last_tag = next_up, next_down - 1, last_tag
        self._keys, self._hello_ms, self.up = keys, self._state_ms - age, True
        self._due_ms = self._proof_ms = now_ms + _PROOF_MS

    def open(self, topic: memoryview, parsed: "envelope.Envelope", now_ms: int) -> Message:
        message = super().open(topic, parsed, now_ms)
        if self._proof_ms is not None:
            if self._due_ms == self._proof_ms:  # else a wake asked for a hello, which stays due
                self._due_ms = None
            self._proof_ms = None
        return message

    def suspend(self, now_ms: int) -> "list[Any] | None":
        """Return what resume() takes, or None without a session. Nothing is sealed after it."""
        state, keys = self._state, self._keys
        if state is not None:  # no broker was reached since the last wake-up
            return state[:5] + [state[5] + now_ms - self._state_ms]
        if keys is None or not self.up or not self._salt:
            return None
        age = now_ms - self._hello_ms
        return [self.appid, self._salt, keys.next_up, keys.last_down + 1, keys.last_tag, age]

    def resume(self, state: "list[Any]", now_ms: int) -> None:
        """Let start() derive the session's keys. state: of suspend(), its age with the sleep."""
        self._state, self._state_ms = state, now_ms


class Saved:
    """What load() found. sessions: states of suspend(). outbox: of Delivery.suspend(), or None."""

    def __init__(self, boot: int, connect: int, sessions: "list[Any]", outbox: "Any") -> None:
        self.boot = boot
        self.connect = connect
        self.sessions = sessions
        self.outbox = outbox


def save(
    vault: "Vault",
    memory: "Memory",
    sessions: "list[ResumableSession]",
    outbox: "Any",
    now_ms: int,
    unix_time: int,
) -> bool:
    """Keep counters, outbox and sessions for load(); return whether the memory took them.

    Also without a session: a wake-up that reached no broker must cost the flash nothing.
    """
    states = [state for state in [one.suspend(now_ms) for one in sessions] if state is not None]
    counter = sessions[0].counter
    fields = [_FORMAT, vault.generation, counter.boot, counter.connect, unix_time, states, outbox]
    data = cbor.encode(fields)
    return memory.write(vault.mac(b"warden sleep 1", data) + data)


def load(vault: "Vault", memory: "Memory", unix_time: int, boot: "Any" = None) -> "Saved | None":
    """Return what save() kept, once: it is erased first. None where it is not for this start.

    boot: ota/boot.py, or None.
    """
    data = memory.read()
    if not data:
        return None
    memory.write(b"")
    if memory.read():
        return None  # what can't be erased could be used twice
    tag, data = data[:_TAG], data[_TAG:]
    if not ct.equal(tag, vault.mac(b"warden sleep 1", data)):
        return None
    try:
        fields: "Any" = cbor.decode(data)
    except PeerError:
        return None
    if fields[0] != _FORMAT or fields[1] != vault.generation:
        return None
    slept, states = unix_time - fields[4], fields[5]
    if slept < 0 or _is_on_trial(vault, boot):
        states = []  # with a lost clock no one knows how old these sessions are
    # The clock runs slow or fast in deep sleep: a command's life must not get longer by it.
    for state in states:
        state[5] += (slept + slept // 8) * 1000
    return Saved(fields[2], fields[3], states, fields[6])


def _is_on_trial(vault: "Vault", boot: "Any") -> bool:
    """Return whether a change or an update waits for a session that proves it: a new one."""
    names = vault.names()
    if any([name in names for name in ("rotation", "network_new", "policy_new", "token_new")]):
        return True
    return boot is not None and boot.boot_result is not None and bool(boot.boot_result.trial)
