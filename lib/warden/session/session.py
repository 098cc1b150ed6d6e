"""The application-ID hand-shake and the sealed messages after it, with one application. Sans-IO.

Both ends prove over two fresh nonces that they hold the same key, and derive keys for this session
and direction alone. The broker's owner can drop and delay messages, no more. The rules, with their
reasons, are in docs/protocol.md; the order of the checks is part of them.

now_ms: milliseconds that never go back and never wrap (net/clock.py, Uptime).
"""

import hashlib

from micropython import const

from ..crypto import ct
from ..crypto.ccm import CCM
from ..crypto.kdf import hkdf_expand, hkdf_extract, hmac_sha256
from ..crypto.rand import random_bytes
from ..errors import LinkError, PeerError
from ..net.backoff import Backoff
from ..wire import cbor, envelope
from ..wire.names import COSE
from .message import COUNTER_MAX, Message, is_number, parse

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault
    from ..wire.names import Topics

_VERSION = const(1)
# Milliseconds after the first sending: the same bytes are sent again, and the attempt ends.
_REPEATS_MS = const((1000, 3000, 9000))
_ATTEMPT_MS = const(30000)
_WAKE_GAP_MS = const(10000)
# A payload of more bytes may hold more items than the host reads.
_COUNTED = const(2000)
_TAG = const(16)  # bytes at the end of a sealed message: a copy of the last command has its tag

_IDLE = const(0)
_HELLO = const(1)
_READY = const(2)


class HelloCounter:
    """Counters that make each hello of this device unlike any before.

    boot: the vault's counter, committed in this boot. key: 32 bytes, the vault's record `nonce`.
    vault: its generation goes into each hello. development: whether the device's console is open.
    """

    def __init__(self, boot: int, key: bytes, vault: "Vault", development: bool = False) -> None:
        self.boot = boot
        self.development = development
        self.vault = vault
        self._nonce_key = key
        self.connect = 0

    def fresh(self) -> "tuple[int, bytes]":
        """Return (connect, Nd) of the next hello.

        The counters make the nonce unique even where the chip's randomness repeats.
        """
        connect = self.connect
        self.connect += 1
        text = cbor.encode([self.boot, connect, random_bytes(16)])
        return connect, hmac_sha256(self._nonce_key, text)[:16]


class Keys:
    """Keys and counters of one session."""

    def __init__(self, key: bytes, kid: bytes, info: "Any", hello: bytes, welcome: bytes) -> None:
        prk = hkdf_extract(hello + welcome, key)
        self.up = CCM(hkdf_expand(prk, info("up key"), 32))
        up_iv = hkdf_expand(prk, info("up iv"), 13)
        self.down = CCM(hkdf_expand(prk, info("down key"), 32))
        self.opener = envelope.Opener(self.down, hkdf_expand(prk, info("down iv"), 13))
        self.sid = hkdf_expand(prk, info("sid"), 8)
        self.sealer = envelope.Sealer(self.up, kid, self.sid, up_iv)
        self.payload: "bytearray | None" = None  # of the last event, kept for the next one
        self.next_up = 0
        self.last_down = -1
        self.last_tag = self.first_tag = b""  # of the last command, and of counter 0
        self.reply: "bytes | None" = None

    def close(self) -> None:
        self.up.close()
        self.down.close()


class Session:
    """The session with one application.

    names: the device's topics. appid: the application's ID. key: K, 32 bytes. digest: SHA-256 of
    the policy record, for hellos. authority: whether the application is the authority.
    """

    def __init__(
        self,
        names: "Topics",
        appid: str,
        key: bytes,
        counter: HelloCounter,
        digest: bytes,
        authority: bool,
    ) -> None:
        self._names = names
        self.appid = appid
        self.authority = authority
        self._key = key
        self._prk = hkdf_extract(b"", key)
        self._info_end = cbor.encode([_VERSION, names.type, names.device, appid])[1:]
        self.counter = counter
        self.policy_digest = digest
        self.kid = hkdf_expand(self._prk, self._info("kid"), 8)
        self._backoff = Backoff(1000, 60000)
        self._keys: "Keys | None" = None
        self._hello_ms = 0  # when the hello of the current keys was sent
        self._phase = _IDLE
        self._due_ms: "int | None" = None
        self._out = b""  # repeated until it is answered
        self._out_ms = 0
        self._repeats = 0
        self._digest = b""  # of the outstanding hello
        self._welcome_digest = b""
        self._wake_nonce: "bytes | None" = None
        self._wake_ms: "int | None" = None
        self.up = False
        self.diverged = False

    def _info(self, name: str) -> bytes:
        """Return the CBOR list of a purpose; name: below 24 characters of ASCII."""
        return b"\x86\x67warden1" + bytes((0x60 | len(name),)) + name.encode() + self._info_end

    @property
    def sid(self) -> bytes:
        """The ID of the session whose keys are in use, 8 bytes; empty without one."""
        return b"" if self._keys is None else self._keys.sid

    # -- hand-shake ---------------------------------------------------------------------------

    def start(self, now_ms: int) -> None:
        """Drop the session of the last connection, and send a hello at the next tick()."""
        self.drop()
        self._backoff.reset()
        self._due_ms = now_ms

    def drop(self) -> None:
        """Drop the session's keys and the outstanding hello or ready."""
        if self._keys is not None:
            self._keys.close()
        self._keys = None
        self.up = False
        self._phase, self._due_ms, self._out, self._digest = _IDLE, None, b"", b""

    def due_ms(self) -> "int | None":
        """Return when tick() has something to send, or None."""
        return self._due_ms

    def tick(self, now_ms: int) -> "tuple[str, bytes] | None":
        """Return (event, bytes) to send now, or None. Called whenever due_ms() has come."""
        if self._due_ms is None or now_ms < self._due_ms:
            return None
        if self._phase == _IDLE:
            return "hello", self._build_hello(now_ms)
        if now_ms - self._out_ms >= _ATTEMPT_MS:
            # No answer: wait, then start over with a new hello. A session that is up meanwhile
            # (a wake was answered, and no welcome followed) stays.
            waiting = self._phase == _READY
            if waiting:
                self.drop()
            self._phase, self._digest, self._out = _IDLE, b"", b""
            self._due_ms = now_ms + self._backoff.next_ms()
            return None
        self._schedule(now_ms)
        return ("hello" if self._phase == _HELLO else "ready"), self._out

    def _send(self, phase: int, data: bytes, now_ms: int) -> bytes:
        self._phase, self._out, self._out_ms, self._repeats = phase, data, now_ms, 0
        self._schedule(now_ms)
        return data

    def _schedule(self, now_ms: int) -> None:
        while (
            self._repeats < len(_REPEATS_MS)
            and self._out_ms + _REPEATS_MS[self._repeats] <= now_ms
        ):
            self._repeats += 1
        later = _REPEATS_MS[self._repeats] if self._repeats < len(_REPEATS_MS) else _ATTEMPT_MS
        self._due_ms = self._out_ms + later

    def _build_hello(self, now_ms: int) -> bytes:
        counter = self.counter
        connect, nonce = counter.fresh()
        fields = [_VERSION, nonce, counter.boot, counter.vault.generation, self.policy_digest]
        fields += [connect, self._wake_nonce] + [True] * counter.development
        payload, self._wake_nonce = bytearray(), None
        cbor.write(payload, fields)
        aad = envelope.external("hello", self._names.event("hello", COSE).encode())
        key = hkdf_expand(self._prk, self._info("hello"), 32)
        hello = envelope.build_mac0(key, self.kid, payload, aad)
        self._digest = hashlib.sha256(hello).digest()
        return self._send(_HELLO, hello, now_ms)

    def on_welcome(
        self, parsed: "envelope.Envelope", digest: bytes, now_ms: int
    ) -> "tuple[bytes, int] | None":
        """Return (ready, unix_time) for a welcome to the outstanding hello; None for a repeat.

        digest: SHA-256 of the whole welcome. PeerError tampered, unexpected, policy-mismatch,
        bad-body.
        """
        fields = self._open_mac0("welcome", parsed, 5)
        _, answered, nonce, unix_time, expected = fields
        if (
            not _is_bytes(answered, 32)
            or not _is_bytes(nonce, 16)
            or not _is_bytes(expected, 32)
            or not is_number(unix_time)
        ):
            raise PeerError("bad-body")
        if digest == self._welcome_digest:
            return None
        # A board that was busy may not have called tick() since the hello's attempt ended.
        late = now_ms - self._out_ms >= _ATTEMPT_MS
        if self._phase != _HELLO or late or not ct.equal(answered, self._digest):
            raise PeerError("unexpected")
        self.diverged = not ct.equal(expected, self.policy_digest)
        if self.diverged and not self.authority:
            raise PeerError("policy-mismatch")
        sent_ms, hello = self._out_ms, self._digest
        self.drop()
        self._hello_ms, self._welcome_digest = sent_ms, digest
        self._keys = Keys(self._key, self.kid, self._info, hello, digest)
        return self._send(_READY, bytes(self.seal_view("ready", 0, {})), now_ms), unix_time

    def on_wake(self, parsed: "envelope.Envelope", now_ms: int) -> None:
        """Send a new hello at the next tick(): the application restarted. At most once in 10 s."""
        _, nonce = self._open_mac0("wake", parsed, 2)
        if not _is_bytes(nonce, 16):
            raise PeerError("bad-body")
        if self._wake_ms is not None and now_ms - self._wake_ms < _WAKE_GAP_MS:
            return
        self._wake_ms = now_ms
        self._wake_nonce = nonce
        self._phase, self._due_ms = _IDLE, now_ms

    def _open_mac0(self, kind: str, parsed: "envelope.Envelope", size: int) -> "list[Any]":
        aad = envelope.external(kind, self._names.command(kind, COSE).encode())
        key = hkdf_expand(self._prk, self._info("welcome"), 32)
        envelope.verify_mac0(parsed, key, aad)
        fields: "Any" = cbor.decode(parsed.body)
        good = isinstance(fields, list) and len(fields) == size and is_number(fields[0])
        if not good or fields[0] != _VERSION:
            raise PeerError("bad-body")
        return fields

    # -- sealed messages ----------------------------------------------------------------------

    def seal(self, event: str, id: int, body: "dict[str, Any]") -> bytes:
        """Return a copy of what seal_view() returns."""
        return bytes(self.seal_view(event, id, body))

    def seal_view(
        self, event: str, id: int, body: "Any", previous: "int | None" = None, opening: bytes = b""
    ) -> memoryview:
        """Return a sealed event, which the next one overwrites. id: of its command, or 0.

        previous: of an event in the outbox, whose number is id and whose body is encoded.
        opening: the encoded body up to its last value, which is `body` then.
        LinkError no-session, counter-exhausted (a new hello is due then).
        """
        payload, lead = self._start_payload(b"\x83"), 0
        cbor.write(payload, id)
        cbor.write(payload, previous)
        if previous is not None:
            payload.extend(body)
        else:
            lead = len(payload)
            payload.extend(opening)
            cbor.write(payload, body, cbor.DEEPEST - (2 if opening else 1))
        return self._seal(payload, lead, self._names.sealed(event)[1])

    def seal_event(self, aad: bytes, body: "dict[str, Any]") -> memoryview:
        """Return seal_view(event, 0, body). aad: of the event, from Topics.sealed()."""
        payload = self._start_payload(b"\x83\x00\xf6")
        cbor.write(payload, body, cbor.DEEPEST - 1)
        return self._seal(payload, 3, aad)

    def _start_payload(self, opening: bytes) -> bytearray:
        """Return the last payload's buffer with these bytes in it, for _seal().

        The caller's alone until then: a body may run code while it is encoded.
        """
        keys = self._keys
        if keys is None:
            raise LinkError("no-session")
        payload, keys.payload = keys.payload or bytearray(), None
        payload[:] = opening
        return payload

    def _seal(self, payload: bytearray, lead: int, aad: bytes) -> memoryview:
        """Return the payload sealed under the next counter.

        It is spent first, and nothing but sealing follows: no key and nonce pair comes twice.
        lead: where the body begins, or 0 if its items were counted.
        """
        if lead and len(payload) > _COUNTED:
            _check_items(memoryview(payload)[lead:])
        keys = self._keys
        if keys is None:
            raise LinkError("no-session")
        counter = keys.next_up
        if counter >= COUNTER_MAX:
            self.drop()
            self._due_ms = 0
            raise LinkError("counter-exhausted")
        keys.next_up = counter + 1
        if len(payload) <= _COUNTED:
            keys.payload = payload
        return keys.sealer.seal(counter, payload, aad)

    def open(self, topic: memoryview, parsed: "envelope.Envelope", now_ms: int) -> Message:
        """Return a command, opened in place.

        LinkError no-session, old-session. PeerError replayed, tampered, bad-body.
        """
        keys = self._keys
        if keys is None:
            raise LinkError("no-session")
        if parsed.sid != keys.sid:
            raise LinkError("old-session")
        counter = parsed.counter
        if counter <= keys.last_down:
            return self._open_again(topic, parsed, keys)
        tag = parsed.body[-_TAG:]
        payload = keys.opener.open(parsed, topic)
        gap = counter - keys.last_down - 1
        keys.last_down, keys.last_tag, keys.reply = counter, bytes(tag), None
        if not counter:
            keys.first_tag = keys.last_tag
        # It opened under this session's key: the application is there, and has our ready.
        self.up = True
        if self._phase == _READY:
            self._phase, self._due_ms, self._out = _IDLE, None, b""
            self._backoff.reset()
        if counter >= COUNTER_MAX:
            self._due_ms = now_ms
        message = parse(payload, self._hello_ms, now_ms)
        message.counter = counter
        if gap:
            message.gap = gap
        return message

    def _open_again(self, topic: memoryview, parsed: "envelope.Envelope", keys: Keys) -> Message:
        """Return a message without a body for a copy of the last command, as QoS 1 allows.

        One that opens and has its counter and its tag is a copy: the application seals one message
        for each counter. PeerError replayed for all else.
        """
        tag, counter = parsed.body[-_TAG:], parsed.counter
        last = counter == keys.last_down and tag == keys.last_tag
        # Our ready and its ack may have crossed.
        if not last and (counter or tag != keys.first_tag):
            raise PeerError("replayed")
        try:
            keys.opener.open(parsed, topic)
        except PeerError:
            raise PeerError("replayed")
        message = Message(0, None)
        if last:
            message.reply = keys.reply
        return message

    def remember(self, counter: int, reply: "bytes | bytearray") -> None:
        """Keep the reply to a command for its QoS 1 duplicate, if it is still the last command."""
        keys = self._keys
        if keys is not None and keys.last_down == counter:
            keys.reply = reply


def _check_items(body: memoryview) -> None:
    from ..wire.cbor_reader import check_items

    check_items(body)


def _is_bytes(value: object, size: int) -> bool:
    return isinstance(value, bytes) and len(value) == size
