"""What the host's tests share: a fleet in a folder, free ports, and a device that speaks the
protocol.

The device here is written from docs/protocol.md a third time, with cbor2 and cryptography alone:
it shares no line with tools/warden_host, so that each checks the other.
"""

import hashlib
import hmac
import os
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from port_kit import free_ports
from warden_host.devices import setup
from warden_host.errors import HostError
from warden_host.fleet import fleet
from warden_host.service.authority import Authority

TYPE, DEVICE, APPID = "relay", "D1", "authority"


def refused(code: str):
    """A context that must end in HostError with this code."""
    return _Refused(code)


class _Refused:
    """str() is what the error said."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.said = ""

    def __enter__(self):
        return self

    def __str__(self) -> str:
        return self.said

    def __exit__(self, kind, error, tb) -> bool:
        if not isinstance(error, HostError):
            if error is None:
                pytest.fail(f"nothing was raised where {self.code} should be")
            return False
        assert error.code == self.code, error
        self.said = f"{error} {error.hint}"
        return True


def new_fleet(folder: Path, commands=("set_relay",)) -> fleet.Fleet:
    port, admin = free_ports(2)
    broker = fleet.BrokerSettings(port=port, device_port=port, admin_port=admin)
    return setup.new_fleet(folder / "fleet", fleet.Settings(broker, tuple(commands)))


def canonical(value) -> bytes:
    return cbor2.dumps(value, canonical=True)


def topic(way: str, verb: str, fmt: str = "cose", device: str = DEVICE) -> str:
    return f"iot-2/type/{TYPE}/id/{device}/{way}/{verb}/fmt/{fmt}"


class PeerDevice:
    """A device's end of one session."""

    def __init__(
        self, k: bytes, policy_hash: bytes, appid: str = APPID, device: str = DEVICE
    ) -> None:
        self.device = device
        self.k = k
        self.policy_hash = policy_hash
        self.names = [1, TYPE, device, appid]
        self.boot, self.connect, self.vault_gen = 1, -1, 1
        self.kid = self.derive("kid", 8)
        self.hello_bytes = b""
        self.keys: dict[str, bytes] = {}
        self.up = 0
        self.nonces: set[tuple[bytes, bytes]] = set()

    def topic(self, way: str, verb: str) -> str:
        return topic(way, verb, device=self.device)

    def info(self, purpose: str) -> bytes:
        return canonical(["warden1", purpose, *self.names])

    def derive(self, purpose: str, length: int) -> bytes:
        return HKDF(SHA256(), length, bytes(32), self.info(purpose)).derive(self.k)

    def mac0(self, purpose: str, kind: str, where: str, payload, *, alg=5) -> bytes:
        protected = canonical({1: alg, 4: self.kid})
        body = payload if isinstance(payload, bytes) else canonical(payload)
        aad = canonical([kind, where])
        to_mac = canonical(["MAC0", protected, aad, body])
        tag = hmac.new(self.derive(purpose, 32), to_mac, hashlib.sha256).digest()
        return canonical([protected, {}, body, tag])

    def hello(self, **changes) -> bytes:
        """A new hello; changes replace fields of its payload."""
        self.connect += 1
        fields = {
            "version": 1,
            "nonce": os.urandom(16),
            "boot": self.boot,
            "vault_gen": self.vault_gen,
            "policy": self.policy_hash,
            "connect": self.connect,
            "wake": None,
        } | changes
        self.hello_bytes = self.mac0(
            "hello", "hello", self.topic("evt", "hello"), list(fields.values())
        )
        return self.hello_bytes

    def take_welcome(self, data: bytes) -> list:
        protected, unprotected, payload, tag = cbor2.loads(data)
        assert unprotected == {}
        assert cbor2.loads(protected) == {1: 5, 4: self.kid}
        aad = canonical(["welcome", self.topic("cmd", "welcome")])
        to_mac = canonical(["MAC0", protected, aad, payload])
        expected = hmac.new(self.derive("welcome", 32), to_mac, hashlib.sha256).digest()
        assert tag == expected
        fields = cbor2.loads(payload)
        assert fields[0] == 1
        assert fields[1] == hashlib.sha256(self.hello_bytes).digest()
        salt = hashlib.sha256(self.hello_bytes).digest() + hashlib.sha256(data).digest()
        prk = hmac.new(salt, self.k, hashlib.sha256).digest()
        lengths = {"up key": 32, "up iv": 13, "down key": 32, "down iv": 13, "sid": 8}
        self.keys = {
            name: HKDFExpand(SHA256(), length, self.info(name)).derive(prk)
            for name, length in lengths.items()
        }
        self.up = 0
        return fields

    def wake_nonce(self, data: bytes) -> bytes:
        protected, _, payload, tag = cbor2.loads(data)
        to_mac = canonical(
            ["MAC0", protected, canonical(["wake", self.topic("cmd", "wake")]), payload]
        )
        assert tag == hmac.new(self.derive("welcome", 32), to_mac, hashlib.sha256).digest()
        version, nonce = cbor2.loads(payload)
        assert version == 1
        return nonce

    def seal(self, event: str, payload, *, counter: int | None = None, headers=None) -> bytes:
        if counter is None:
            counter, self.up = self.up, self.up + 1
        partial = counter.to_bytes(max(1, (counter.bit_length() + 7) // 8), "big")
        fields = {1: 31, 4: self.kid, 6: partial, 10: self.keys["sid"]} | (headers or {})
        protected = canonical(fields)
        aad = canonical(["Encrypt0", protected, canonical(["msg", self.topic("evt", event)])])
        nonce = _xor(self.keys["up iv"], partial)
        body = payload if isinstance(payload, bytes) else canonical(payload)
        return canonical([protected, {}, AESCCM(self.keys["up key"]).encrypt(nonce, body, aad)])

    def ready(self) -> bytes:
        return self.seal("ready", [0, None, {}])

    def open(self, command: str, data: bytes) -> tuple[int, list]:
        """(counter, [id, expiry, body]); every key and nonce pair that comes by is new."""
        protected, _, ciphertext = cbor2.loads(data)
        headers = cbor2.loads(protected)
        assert headers == {1: 31, 4: self.kid, 6: headers[6], 10: self.keys["sid"]}
        aad = canonical(["Encrypt0", protected, canonical(["msg", self.topic("cmd", command)])])
        nonce = _xor(self.keys["down iv"], headers[6])
        plain = AESCCM(self.keys["down key"]).decrypt(nonce, ciphertext, aad)
        return int.from_bytes(headers[6], "big"), cbor2.loads(plain)


def _xor(iv: bytes, partial: bytes) -> bytes:
    padded = bytes(13 - len(partial)) + partial
    return bytes(a ^ b for a, b in zip(iv, padded, strict=True))


class SteppedClock:
    """Steady seconds that pass when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def receive(
    authority: Authority, where: str, data: bytes, appid: str = APPID, count: int = 1
) -> None:
    """A message from the broker, as an application's link passes it on."""
    for _ in range(count):
        authority.receive(appid, where.encode(), memoryview(data), False)


def settle(authority: Authority, clock: SteppedClock | None = None) -> None:
    """Return when no message waits: each of them was dealt with, since an order comes between two.

    clock: moved on while messages rest for their account's rate.
    """
    while authority.ask(lambda _: authority.load.waiting, 60):
        if clock is not None:
            clock.now += 0.1


class NoLink:
    """Stands for the link of an application: there is no broker here."""

    def __init__(
        self, _fleet, _appid, _types, on_message, _received, on_link_change, _tell
    ) -> None:
        self.on_message = on_message

    def wait(self, _seconds: float) -> None:
        pass

    def publish(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass
