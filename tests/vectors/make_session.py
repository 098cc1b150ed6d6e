"""Writes session.json: a session of docs/protocol.md, message by message, from nothing but cbor2
and cryptography; and docs/vectors.md, the same for people.

It imports neither the device's code nor the host's, so it is a third reading of the page; both
others must reproduce its bytes. Each message names the outcome that the page asks for. Run it from
anywhere: it writes beside itself, and into docs.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import cbor2
import make_key_lists
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

PATH = Path(__file__).with_name("session.json")
PAGE = PATH.parents[2] / "docs" / "vectors.md"
TYPE, DEVICE, APPID = "door", "front-1", "acme"
K = bytes(range(0x40, 0x60))
NONCE_KEY = bytes(range(0x80, 0xA0))
URANDOM = bytes(range(0x10, 0x20))
NA = bytes(range(0x30, 0x40))
POLICY = hashlib.sha256(b"the policy record").digest()
BOOT, CONNECT, VAULT_GEN, UNIX = 7, 0, 12, 1_800_000_000


def enc(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


def info(purpose: str, device: str = DEVICE) -> bytes:
    return enc(["warden1", purpose, 1, TYPE, device, APPID])


def derive(purpose: str, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=info(purpose)).derive(K)


KH, KW, KID = derive("hello", 32), derive("welcome", 32), derive("kid", 8)


def topic(way: str, name: str, device: str = DEVICE) -> str:
    return f"iot-2/type/{TYPE}/id/{device}/{way}/{name}/fmt/cose"


def mac0(key: bytes, kind: str, where: str, payload: Any, kid: bytes = KID, alg: int = 5) -> bytes:
    protected = enc({1: alg, 4: kid})
    body = payload if isinstance(payload, bytes) else enc(payload)
    aad = enc([kind, where])
    tag = hmac.digest(key, enc(["MAC0", protected, aad, body]), "sha256")
    return enc([protected, {}, body, tag])


class Keys:
    def __init__(self, hello: bytes, welcome: bytes) -> None:
        salt = hashlib.sha256(hello).digest() + hashlib.sha256(welcome).digest()
        prk = hmac.digest(salt, K, "sha256")

        def expand(purpose: str, length: int) -> bytes:
            return HKDFExpand(SHA256(), length, info(purpose)).derive(prk)

        self.up, self.up_iv = expand("up key", 32), expand("up iv", 13)
        self.down, self.down_iv = expand("down key", 32), expand("down iv", 13)
        self.sid = expand("sid", 8)

    def seal(self, way: str, name: str, counter: int, payload: Any, **other: Any) -> bytes:
        key, iv = (self.up, self.up_iv) if way == "evt" else (self.down, self.down_iv)
        piv = counter.to_bytes(max(1, (counter.bit_length() + 7) // 8), "big")
        piv = other.get("piv", piv)
        headers = {1: 31, 4: other.get("kid", KID), 6: piv, 10: other.get("sid", self.sid)}
        protected = enc(headers)
        nonce = (int.from_bytes(iv, "big") ^ counter).to_bytes(13, "big")
        aad = enc(["Encrypt0", protected, enc(["msg", topic(way, name)])])
        body = payload if isinstance(payload, bytes) else enc(payload)
        return enc([protected, {}, AESCCM(key, 16).encrypt(nonce, body, aad)])


def flip(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def make() -> dict[str, Any]:
    nd = hmac.digest(NONCE_KEY, enc([BOOT, CONNECT, URANDOM]), "sha256")[:16]
    hello = mac0(
        KH, "hello", topic("evt", "hello"), [1, nd, BOOT, VAULT_GEN, POLICY, CONNECT, None]
    )
    down = topic("cmd", "welcome")
    answered = hashlib.sha256(hello).digest()
    welcome = mac0(KW, "welcome", down, [1, answered, NA, UNIX, POLICY])
    keys = Keys(hello, welcome)
    foreign = Keys(flip(hello), welcome)
    empty = [0, None, {}]
    ready = keys.seal("evt", "ready", 0, empty)
    ack = keys.seal("cmd", "ack", 0, empty)
    body = {"on": 1, "why": "ä", "list": [None, True, -5, b"\0\xff"]}
    command = keys.seal("cmd", "set_relay", 1, [9, 60, body])

    def to_device(name: str, outcome: str, message: bytes, command: str = "") -> dict[str, str]:
        return {
            "name": name,
            "command": command,
            "message": message.hex(),
            "outcome": outcome,
        }

    def welcomes(name: str, outcome: str, message: bytes) -> dict[str, str]:
        return to_device(name, outcome, message, "welcome")

    # While the hello is outstanding; none of them may keep the device from taking the true one
    # after.
    before = [
        welcomes("a bit of the tag", "tampered", flip(welcome)),
        welcomes("a bit of the payload", "tampered", flip(welcome, 20)),
        welcomes("under Kh: a reflection", "tampered", mac0(KH, "welcome", down, [1, answered, NA, UNIX, POLICY])),
        welcomes("our own hello", "tampered", hello),
        welcomes("for another topic", "tampered", mac0(KW, "welcome", topic("cmd", "welcome", "back-2"), [1, answered, NA, UNIX, POLICY])),
        welcomes("a wake", "tampered", mac0(KW, "wake", down, [1, NA])),
        welcomes("another kid", "wrong-application", mac0(KW, "welcome", down, [1, answered, NA, UNIX, POLICY], bytes(8))),
        welcomes("another algorithm", "cose-malformed or cose-algorithm", mac0(KW, "welcome", down, [1, answered, NA, UNIX, POLICY], KID, 4)),
        welcomes("cut short", "cose-malformed", welcome[:-1]),
        welcomes("a byte more", "cose-malformed", welcome + b"\0"),
        welcomes("to another hello", "unexpected", mac0(KW, "welcome", down, [1, bytes(32), NA, UNIX, POLICY])),
        welcomes("version 2", "bad-body", mac0(KW, "welcome", down, [2, answered, NA, UNIX, POLICY])),
        welcomes("a field less", "bad-body", mac0(KW, "welcome", down, [1, answered, NA, UNIX])),
        welcomes("a short nonce", "bad-body", mac0(KW, "welcome", down, [1, answered, NA[:15], UNIX, POLICY])),
        welcomes("a time that is none", "bad-body", mac0(KW, "welcome", down, [1, answered, NA, -1, POLICY])),
        welcomes("a time beyond 32 bits", "bad-body", mac0(KW, "welcome", down, [1, answered, NA, 1 << 32, POLICY])),
        welcomes("a bool for the version", "bad-body", mac0(KW, "welcome", down, [True, answered, NA, UNIX, POLICY])),
        welcomes("a map", "bad-body", mac0(KW, "welcome", down, {1: 1})),
        welcomes("not deterministic", "cbor-not-canonical", mac0(KW, "welcome", down, b"\x98\x01\x01")),
        welcomes("another policy", "policy-mismatch", mac0(KW, "welcome", down, [1, answered, NA, UNIX, bytes(32)])),
        to_device("a command before any session", "no-session", command, "set_relay"),
    ]  # fmt: skip
    # After the ack, in this order. Those that open take a counter.
    after = [
        to_device("the command", "obeyed", command, "set_relay"),
        to_device("the same again", "repeat", command, "set_relay"),
        to_device("the ack again", "repeat", ack, "ack"),
        welcomes("the welcome again", "repeat", welcome),
        welcomes("another welcome to that hello", "unexpected", mac0(KW, "welcome", down, [1, answered, bytes(16), UNIX, POLICY])),
        to_device("under another name", "tampered", keys.seal("cmd", "set_relay", 2, [9, None, {}]), "reboot"),
        to_device("a bit of the ciphertext", "tampered", flip(keys.seal("cmd", "set_relay", 2, [9, None, {}])), "set_relay"),
        to_device("our own ready as an ack", "replayed", ready, "ack"),
        to_device("an event as a command", "tampered", keys.seal("evt", "set_relay", 2, [9, None, {}]), "set_relay"),
        to_device("another session", "old-session", foreign.seal("cmd", "set_relay", 2, [9, None, {}]), "set_relay"),
        to_device("this session's ID, another's keys", "tampered", foreign.seal("cmd", "set_relay", 2, [9, None, {}], sid=keys.sid), "set_relay"),
        to_device("another application", "wrong-application", keys.seal("cmd", "set_relay", 2, [9, None, {}], kid=bytes(8)), "set_relay"),
        to_device("an old counter, other bytes", "replayed", keys.seal("cmd", "set_relay", 1, [10, 60, body]), "set_relay"),
        to_device("a counter in a longer form", "cose-malformed", keys.seal("cmd", "set_relay", 2, [9, None, {}], piv=b"\0\2"), "set_relay"),
        to_device("five bytes of counter", "cose-malformed", keys.seal("cmd", "set_relay", 1 << 32, [9, None, {}]), "set_relay"),
        to_device("no body", "bad-body", keys.seal("cmd", "set_relay", 2, [9, None]), "set_relay"),
        to_device("a body that is no map", "bad-body", keys.seal("cmd", "set_relay", 3, [9, None, []]), "set_relay"),
        to_device("a key that is no text", "bad-body", keys.seal("cmd", "set_relay", 4, [9, None, {1: 1}]), "set_relay"),
        to_device("a negative id", "bad-body", keys.seal("cmd", "set_relay", 5, [-1, None, {}]), "set_relay"),
        to_device("an expiry that is no number", "bad-body", keys.seal("cmd", "set_relay", 6, [9, "1", {}]), "set_relay"),
        to_device("a payload that is no CBOR", "cbor-malformed", keys.seal("cmd", "set_relay", 7, b"\xff"), "set_relay"),
        to_device("an expired one", "expired", keys.seal("cmd", "set_relay", 8, [9, 0, {}]), "set_relay"),
        to_device("without a handler", "unknown-command", keys.seal("cmd", "reboot", 9, [9, None, {}]), "reboot"),
        to_device("not this application's", "not-allowed", keys.seal("cmd", "open_door", 10, [9, None, {}]), "open_door"),
        to_device("after a gap", "gap", keys.seal("cmd", "set_relay", 300, [11, None, {}]), "set_relay"),
    ]  # fmt: skip
    hello_topic = topic("evt", "hello")
    fields = [1, nd, BOOT, VAULT_GEN, POLICY, CONNECT, None]

    def event(name: str, outcome: str, message: bytes, event: str = "hello") -> dict[str, str]:
        return {"name": name, "event": event, "message": message.hex(), "outcome": outcome}

    host_before = [
        event("a bit of the tag", "tampered", flip(hello)),
        event("under Kw: a reflection", "tampered", mac0(KW, "hello", hello_topic, fields)),
        event("a welcome", "tampered", welcome),
        event("another kid", "wrong-application", mac0(KH, "hello", hello_topic, fields, bytes(8))),
        event("from another device", "tampered", mac0(KH, "hello", topic("evt", "hello", "back-2"), fields)),
        event("version 2", "bad-body", mac0(KH, "hello", hello_topic, [2, *fields[1:]])),
        event("a field more", "bad-body", mac0(KH, "hello", hello_topic, [*fields, None])),
        event("a short nonce", "bad-body", mac0(KH, "hello", hello_topic, [1, nd[:15], *fields[2:]])),
        event("a boot beyond 32 bits", "bad-body", mac0(KH, "hello", hello_topic, [1, nd, 1 << 32, *fields[3:]])),
        event("an event before any session", "no-session", keys.seal("evt", "temperature", 1, [0, None, {"c": 21.5}]), "temperature"),
    ]  # fmt: skip
    # After the hello was answered.
    host_ready = [
        event("a ready that says something", "bad-body", keys.seal("evt", "ready", 1, [0, None, {"x": 1}]), "ready"),
        event("a bit of the ready", "tampered", flip(ready), "ready"),
        event("the ack as a ready", "tampered", ack, "ready"),
        event("an event before the ready", "no-session", keys.seal("evt", "temperature", 1, [0, None, {"c": 21.5}]), "temperature"),
    ]  # fmt: skip
    host_after = [
        event("an event", "received", keys.seal("evt", "temperature", 1, [0, None, {"c": 21.5}]), "temperature"),
        event("the same again", "replayed", keys.seal("evt", "temperature", 1, [0, None, {"c": 21.5}]), "temperature"),
        event("the hello again", "stale-hello", hello),
        event("under another name", "tampered", keys.seal("evt", "temperature", 2, [0, None, {}]), "humidity"),
        event("a command as an event", "tampered", keys.seal("cmd", "temperature", 2, [0, None, {}]), "temperature"),
        event("another session", "no-session", foreign.seal("evt", "temperature", 2, [0, None, {}]), "temperature"),
        event("a second ready", "bad-body", keys.seal("evt", "ready", 2, empty), "ready"),
        event("after a gap", "received", keys.seal("evt", "temperature", 90, [0, None, {}]), "temperature"),
        event("within the window", "received", keys.seal("evt", "temperature", 27, [0, None, {}]), "temperature"),
        event("behind the window", "replayed", keys.seal("evt", "temperature", 26, [0, None, {}]), "temperature"),
        event("a payload that is no CBOR", "cbor-malformed", keys.seal("evt", "temperature", 91, b"\xff"), "temperature"),
    ]  # fmt: skip
    octets = {
        "k": K,
        "nonce_key": NONCE_KEY,
        "urandom": URANDOM,
        "na": NA,
        "policy_hash": POLICY,
        "hello_key": KH,
        "welcome_key": KW,
        "kid": KID,
        "nd": nd,
        "hello": hello,
        "welcome": welcome,
        "up_key": keys.up,
        "up_iv": keys.up_iv,
        "down_key": keys.down,
        "down_iv": keys.down_iv,
        "sid": keys.sid,
        "ready": ready,
        "ack": ack,
        "command": command,
        "command_body": enc(body),
        "reply": keys.seal("evt", "reply", 1, [9, None, {"ok": True, "result": 5}]),
        "wake": mac0(KW, "wake", topic("cmd", "wake"), [1, NA]),
    }
    numbers = {"boot": BOOT, "connect": CONNECT, "vault_gen": VAULT_GEN, "unix_time": UNIX}
    words = {"type": TYPE, "device": DEVICE, "appid": APPID}
    return {
        **words,
        **numbers,
        **{name: value.hex() for name, value in octets.items()},
        "device_before": before,
        "device_after": after,
        "host_before": host_before,
        "host_ready": host_ready,
        "host_after": host_after,
    }


def text() -> str:
    return json.dumps(make(), indent=1, ensure_ascii=False) + "\n"


_BEGINNING = """\
# Test vectors

One session of [protocol.md](protocol.md), message by message, with the keys in between. `tests/vectors/session.json`
has the same values, and the messages that must be refused. `tests/vectors/make_session.py` writes both files, from the
protocol's page alone; the tests of the device, of the host and of [examples/javascript](../examples/javascript/app.mjs)
meet them. Bytes are in hex. Topics are those of device `front-1` of type `door`.

## The session

| name | bytes |
|---|---|
"""
_TEXTS = {
    "k": "K, the sealing key of device `front-1`, type `door`, and application `acme`",
    "hello_key": 'Kh = HKDF(K, info("hello"), 32)',
    "welcome_key": 'Kw = HKDF(K, info("welcome"), 32)',
    "kid": 'kid = HKDF(K, info("kid"), 8)',
    "nonce_key": "Knonce, of the device's vault",
    "urandom": "what the device's generator gives",
    "nd": "Nd, boot 7, connect 0",
    "policy_hash": "SHA-256 of the policy record",
    "hello": "up, `evt/hello/fmt/cose`: vault_gen 12, no wake nonce",
    "na": "Na of the welcome, and nonce of the wake",
    "welcome": "down, `cmd/welcome/fmt/cose`: unix_time 1800000000",
    "up_key": "up key",
    "up_iv": "up IV",
    "down_key": "down key",
    "down_iv": "down IV",
    "sid": "sid",
    "ready": "up, `evt/ready/fmt/cose`: counter 0, `[0, null, {}]`",
    "ack": "down, `cmd/ack/fmt/cose`: counter 0, `[0, null, {}]`",
    "command_body": 'the body of a command, `{"on": 1, "why": "ä", "list": [null, true, -5, h\'00ff\']}`',
    "command": "down, `cmd/set_relay/fmt/cose`: counter 1, id 9, expiry 60, that body",
    "reply": 'up, `evt/reply/fmt/cose`: counter 1, `[9, null, {"ok": true, "result": 5}]`',
    "wake": "down, `cmd/wake/fmt/cose`, on its own",
}
_LISTS = {
    "host_before": "an application that holds no session",
    "host_ready": "then, after the hello above was answered",
    "host_after": "then, after the ready above",
    "device_before": "a device whose hello above waits for its welcome",
    "device_after": "a device after the ack above",
}
_REFUSALS = """
## Messages with an outcome

Each list of `session.json` holds messages in their order, with `name`, `event` or `command` of the topic, `message` and
`outcome`: `received`, `obeyed`, `repeat` (the answer before comes again), `gap` (obeyed, and reported), or a code of
[errors.md](errors.md): refused. A message that is refused moves no counter.

"""


def page() -> str:
    """Return docs/vectors.md."""
    made = make()
    rows = [f"| {words} | `{made[name]}` |" for name, words in _TEXTS.items()]
    page = _BEGINNING + "\n".join(rows) + "\n" + _REFUSALS
    page += "| list | received by | messages |\n|---|---|---|\n"
    for name, words in _LISTS.items():
        shown = "; ".join(f"{each['name']}: `{each['outcome']}`" for each in made[name])
        page += f"| `{name}` | {words} | {shown} |\n"
    return page + make_key_lists.section()


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
    make_key_lists.PATH.write_text(make_key_lists.text(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
