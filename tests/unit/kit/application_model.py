"""An application put together by hand, and a device without a link, for tests of the session.

Keys, MACs and AES-CCM are computed here a second time, from SHA-256 and single AES blocks; only
CBOR is the device's own, which tests/host/protocol/test_cbor.py holds against cbor2.
"""

import hashlib

import cryptolib
from warden.session.command import Commands
from warden.session.inbox import Inbox
from warden.session.session import HelloCounter, Session
from warden.wire import cbor
from warden.wire.names import COSE, Topics

NAMES = Topics("door", "front-1")
POLICY = hashlib.sha256(b"the policy").digest()
KEY = bytes(range(32))


def sha256(data):
    return hashlib.sha256(data).digest()


def hmac(key, text):
    key = key + bytes(64 - len(key))
    inner = sha256(bytes([b ^ 0x36 for b in key]) + text)
    return sha256(bytes([b ^ 0x5C for b in key]) + inner)


def expand(prk, info, n):
    return (hmac(prk, info + b"\x01"))[:n]  # never more than 32 bytes here


def xor(a, b):
    return bytes([x ^ y for x, y in zip(a, b)])  # noqa: B905  (MicroPython has no strict)


def blocks(data):
    data = bytes(data) + bytes(-len(data) % 16)
    return [data[i : i + 16] for i in range(0, len(data), 16)]


def ccm(key, nonce, text, aad, sealing):
    """AES-CCM with a 16-byte tag, block by block (RFC 3610 §2). text is without its tag; returns
    (text, tag)."""
    aes = cryptolib.aes(key, 1).encrypt
    stream = b""
    for i in range(len(text) // 16 + 2):
        stream += aes(b"\x01" + nonce + i.to_bytes(2, "big"))
    other = xor(text, stream[16:])
    plain = text if sealing else other
    chain = aes(b"\x79" + nonce + len(text).to_bytes(2, "big"))
    for block in blocks(len(aad).to_bytes(2, "big") + aad) + blocks(plain):
        chain = aes(xor(chain, block))
    return other, xor(chain, stream[:16])


def flip(data, at=-1):
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


class App:
    """The application's side, by docs/protocol.md. `keys` are those of the last welcome."""

    def __init__(self, appid="acme", key=KEY, names=NAMES):
        self.appid, self.key, self.names = appid, key, names
        self.kid = self.derive("kid", 8)

    def info(self, purpose):
        return cbor.encode(["warden1", purpose, 1, self.names.type, self.names.device, self.appid])

    def derive(self, purpose, n):
        return expand(hmac(bytes(32), self.key), self.info(purpose), n)

    def mac0(self, kind, payload, topic=None, purpose="welcome"):
        protected = cbor.encode({1: 5, 4: self.kid})
        topic = topic or self.names.command(kind, COSE)
        body = payload if isinstance(payload, bytes) else cbor.encode(payload)
        aad = cbor.encode([kind, topic])
        tag = hmac(self.derive(purpose, 32), cbor.encode(["MAC0", protected, aad, body]))
        return cbor.encode([protected, {}, body, tag])

    def read_hello(self, hello):
        """The payload's fields, if the structure, the key and the topic are right."""
        protected, unprotected, body, tag = cbor.decode(hello)
        aad = cbor.encode(["hello", self.names.event("hello", COSE)])
        wanted = hmac(self.derive("hello", 32), cbor.encode(["MAC0", protected, aad, body]))
        if (protected, unprotected, tag) != (cbor.encode({1: 5, 4: self.kid}), {}, wanted):
            raise ValueError("not a hello")
        return cbor.decode(body)

    def welcome(self, hello, nonce=bytes(16), unix_time=1800000000, policy=POLICY):
        welcome = self.mac0("welcome", [1, sha256(hello), nonce, unix_time, policy])
        self.keys = self.session_keys(hello, welcome)
        return welcome

    def session_keys(self, hello, welcome):
        prk = hmac(sha256(hello) + sha256(welcome), self.key)
        sizes = (("up key", 32), ("up iv", 13), ("down key", 32), ("down iv", 13), ("sid", 8))
        return [expand(prk, self.info(purpose), n) for purpose, n in sizes]

    def wake(self, nonce=bytes(16)):
        return self.mac0("wake", [1, nonce])

    def seal(self, command, counter, id=0, expiry=None, body=None, keys=None):
        _, _, key, iv, sid = keys or self.keys
        payload = cbor.encode([id, expiry, {} if body is None else body])
        protected = self.header(counter, sid)
        text, tag = ccm(
            key,
            self.nonce(iv, counter),
            payload,
            self.aad(protected, self.names.command(command, COSE)),
            True,
        )
        return cbor.encode([protected, {}, text + tag])

    def header(self, counter, sid):
        n = 1
        while counter >> 8 * n:
            n += 1
        return cbor.encode({1: 31, 4: self.kid, 6: counter.to_bytes(n, "big"), 10: sid})

    def nonce(self, iv, counter):
        return xor(iv, counter.to_bytes(13, "big"))

    def aad(self, protected, topic):
        return cbor.encode(["Encrypt0", protected, cbor.encode(["msg", topic])])

    def open(self, event, counter, data, keys=None):
        """[id, expiry, body] of what must be the message of this counter."""
        key, iv, _, _, sid = keys or self.keys
        protected, unprotected, text = cbor.decode(data)
        if protected != self.header(counter, sid) or unprotected != {}:
            raise ValueError("another header")
        aad = self.aad(protected, self.names.event(event, COSE))
        plain, tag = ccm(key, self.nonce(iv, counter), text[:-16], aad, False)
        if tag != text[-16:]:
            raise ValueError("another tag")
        return cbor.decode(plain)


class Refusals:
    """Stands where the incidents are counted, and keeps their codes."""

    def __init__(self):
        self.codes, self.woken_ms = [], []

    def add(self, code, at, now_ms, n=1, source=""):
        self.codes.append(code)

    def wake(self, now_ms):
        self.woken_ms.append(now_ms)

    def acknowledge(self, number, now_ms):
        if number is not None:
            self.codes.append("acknowledged %d" % number)


class Bench:
    """A device's session, its inbox and its commands, without a link."""

    def __init__(self, app, boot=5, generation=9, authority=False, nonce_key=bytes(32)):
        self.app = app
        self.generation = generation
        self.counter = HelloCounter(boot, nonce_key, self)
        self.session = Session(app.names, app.appid, app.key, self.counter, POLICY, authority)
        self.ran = []
        self.jobs = []
        self.times = []
        commands = Commands()
        commands.grant(app.appid, ("set_relay", "reboot"))
        commands.register("set_relay", self.ran.append)
        commands.register("open_door", self.ran.append)
        self.refused = Refusals()
        names, sessions = app.names, [self.session]
        self.inbox = Inbox(names, commands, self.refused, sessions, None, self.times.append)

    def receive(self, command, data, now_ms, work=True):
        """What became of a message: (incident codes, [(event, bytes) to send])."""
        self.refused.codes = []
        topic = self.app.names.command(command, COSE).encode()
        job = self.inbox.receive(topic, memoryview(bytearray(data)), False, now_ms)
        if job is not None:
            if work:
                job.answer(job.run(print))
            else:
                self.jobs.append(job)
        out = [(event, bytes(data)) for event, _, data in self.inbox.out]
        del self.inbox.out[:]
        return self.refused.codes, out

    def tick(self, now_ms):
        said = self.session.tick(now_ms)
        return said and (said[0], bytes(said[1]))

    def hello(self, now_ms=0):
        """A connection begins; the hello's bytes."""
        self.session.start(now_ms)
        return self.tick(now_ms)[1]

    def handshake(self, now_ms=0):
        """The whole hand-shake, in no time."""
        hello = self.hello(now_ms)
        codes, out = self.receive("welcome", self.app.welcome(hello), now_ms)
        self.receive("ack", self.app.seal("ack", 0), now_ms)
        return codes == [] and len(out) == 1 and out[0][0] == "ready" and self.session.up
