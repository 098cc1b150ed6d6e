"""Lists of keys for an application, by docs/protocol.md alone, as make_session.py has its session.

It needs nothing but cbor2 and cryptography. make_session.py writes key_lists.json and the section.
"""

import hmac
import json
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PATH = Path(__file__).with_name("key_lists.json")
APPID = "acme"
SECRET = bytes(range(0xA0, 0xC0))
KNOWN = 100  # the number of the list that the application has
ENTRY = {
    "device": "front-1",
    "type": "door",
    "mode": "sealed",
    "commands": ["open_door"],
    "max_message": 2048,
    "policies": [bytes(range(32))],
    "keys": [bytes(range(0x40, 0x60))],
    "proven": [-1, -1, 0],
    "event_number": 0,
}
SCOPES = [["door"], ["open_door"]]


def enc(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


def derive(purpose: str, length: int, salt: bytes | None = None) -> bytes:
    info = enc(["warden1", purpose, 1, APPID])
    return HKDF(SHA256(), length, salt=salt, info=info).derive(SECRET)


KID, ASK_KEY = derive("list kid", 8), derive("list ask", 32)


def page(list_id: bytes, position: int, payload: Any, **other: Any) -> bytes:
    both = derive("list key", 45, list_id)
    counter = position.to_bytes(max(1, (position.bit_length() + 7) // 8), "big")
    protected = enc({1: 31, 4: other.get("kid", KID), 6: counter, 10: list_id})
    nonce = (int.from_bytes(both[32:], "big") ^ position).to_bytes(13, "big")
    where = other.get("topic", f"warden/app/{APPID}/keys")
    aad = enc(["Encrypt0", protected, enc(["keys", where])])
    body = payload if isinstance(payload, bytes) else enc(payload)
    return enc([protected, {}, AESCCM(both[:32], 16).encrypt(nonce, body, aad)])


def ask(payload: Any, **other: Any) -> bytes:
    protected = enc({1: 5, 4: other.get("kid", KID)})
    aad = enc([other.get("kind", "ask"), f"warden/app/{APPID}/ask"])
    tag = hmac.digest(ASK_KEY, enc(["MAC0", protected, aad, enc(payload)]), "sha256")
    return enc([protected, {}, enc(payload), tag])


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def make() -> dict[str, Any]:
    one, two, three = b"list-101", b"list-102", b"list-104"
    second = ENTRY | {"device": "back-2", "keys": [bytes(32), bytes(range(32))]}
    change = page(one, 0, [1, 101, 100, True, None, [second]])

    def named(name: str, outcome: str, message: bytes) -> dict[str, str]:
        return {"name": name, "message": message.hex(), "outcome": outcome}

    lists = [
        named("a bit of the tag", "tampered", flip(change)),
        named("another secret's kid", "wrong-application", page(one, 0, [1, 101, 100, True, None, []], kid=bytes(8))),
        named("on another topic", "tampered", page(one, 0, [1, 101, 100, True, None, []], topic="warden/app/acm/keys")),
        named("version 2", "bad-body", page(one, 0, [2, 101, 100, True, None, []])),
        named("a field less", "bad-body", page(one, 0, [1, 101, 100, True, None])),
        named("a number beyond 32 bits", "bad-body", page(one, 0, [1, 1 << 32, 100, True, None, []])),
        named("a change of two pages", "bad-body", page(one, 0, [1, 101, 100, False, None, []])),
        named("a change that goes back", "bad-body", page(one, 0, [1, 101, 101, True, None, []])),
        named("scopes that are none", "bad-body", page(one, 0, [1, 101, 100, True, [["door"]], []])),
        named("a device that is a number", "bad-body", page(one, 0, [1, 101, 100, True, None, [1]])),
        named("no CBOR", "cbor-malformed", page(one, 0, b"\xff")),
        named("a device without keys", "key-damaged", page(one, 0, [1, 101, 100, True, None, [ENTRY | {"keys": []}]])),
        named("a device's name that is none", "bad-name", page(one, 0, [1, 101, 100, True, None, ["a/b"]])),
        named("an older list", "replayed", page(one, 0, [1, 100, None, True, SCOPES, []])),
        named("a list before it is missing", "gap", page(two, 0, [1, 102, 101, True, None, []])),
        named("a new device, back-2", "taken", change),
        named("the same again", "replayed", change),
        named("that it is gone", "taken", page(two, 0, [1, 102, 101, True, None, ["back-2"]])),
        named("the second page of all devices", "gap", page(three, 1, [1, 104, None, True, None, []])),
        named("the first page of all devices", "more", page(three, 0, [1, 104, None, False, SCOPES, [ENTRY]])),
        named("the same page again", "replayed", page(three, 0, [1, 104, None, False, SCOPES, [ENTRY]])),
        named("the second page", "taken", page(three, 1, [1, 104, None, True, None, [second]])),
    ]  # fmt: skip
    asks = [
        named("an ask with list 100", "taken", ask([1, KNOWN])),
        named("a bit of the tag", "tampered", flip(ask([1, KNOWN]))),
        named("of another kind", "tampered", ask([1, KNOWN], kind="keys")),
        named("of another export", "wrong-application", ask([1, KNOWN], kid=bytes(8))),
        named("version 2", "bad-body", ask([2, KNOWN])),
        named("a number beyond 32 bits", "bad-body", ask([1, 1 << 32])),
        named("a longer one", "mqtt-too-large", ask([1, KNOWN, bytes(100)])),
    ]
    return {
        "appid": APPID,
        "known": KNOWN,
        "secret": SECRET.hex(),
        "kid": KID.hex(),
        "ask_key": ASK_KEY.hex(),
        "list_id": one.hex(),
        "list_key_iv": derive("list key", 45, one).hex(),
        "change": change.hex(),
        "ask": ask([1, KNOWN]).hex(),
        "lists": lists,
        "asks": asks,
    }


def text() -> str:
    return json.dumps(make(), indent=1, ensure_ascii=False) + "\n"


_BEGINNING = """
## Lists of keys

`tests/vectors/key_lists.json`: what application `acme` is sent, and sends, for
[its devices' keys](protocol.md#keys-of-an-application). It has list 100.

| name | bytes |
|---|---|
"""
_TEXTS = {
    "secret": "S, of the file",
    "kid": 'HKDF(S, info("list kid"), 8)',
    "ask_key": 'HKDF(S, info("list ask"), 32)',
    "list_id": "the ID of list 101",
    "list_key_iv": 'HKDF(S, info("list key"), 45) with that ID as salt: key, IV',
    "change": "`warden/app/acme/keys`: list 101, page 0, which continues 100 and has one device, `back-2`",
    "ask": "`warden/app/acme/ask`: `[1, 100]`",
}
_LISTS = {"lists": "the application, in this order", "asks": "the authority"}


def section() -> str:
    made = make()
    page = _BEGINNING + "".join(
        f"| {words} | `{made[name]}` |\n" for name, words in _TEXTS.items()
    )
    page += "\nOutcomes: `taken`, `more` (pages follow), or a code of [errors.md](errors.md): refused.\n\n"
    page += "| list | received by | messages |\n|---|---|---|\n"
    for name, words in _LISTS.items():
        shown = "; ".join(f"{each['name']}: `{each['outcome']}`" for each in made[name])
        page += f"| `{name}` | {words} | {shown} |\n"
    return page
