"""Writes vault-v1-file.json, vault-v1-flash.json and vault-v1-nvs.json: vaults as docs/formats.md
describes them, byte by byte, from nothing but cbor2 and cryptography.

It imports no code of the device, so it is a second reading of the page. Each file names the root
key that opens it and what is inside; every later version of Warden must read it. What was released
once is never made anew: a later format gets files of its own.

Run it from anywhere: it writes beside itself.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from zlib import crc32

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HERE = Path(__file__).resolve().parent
ROOT_KEY = bytes(range(32))
VAULT_KEY = bytes(range(0x60, 0x80))
RECORDS = {"broker": b"sea.example", "nonce": bytes(range(32)), "empty": b"", "long": bytes(2000)}
COUNTERS = {"boot": 12, "time": 1_800_000_000}
GENERATION = 5
EXPECTED = {
    "root_key": ROOT_KEY.hex(),
    "records": {name: value.hex() for name, value in RECORDS.items()},
    "counters": COUNTERS,
    "generation": GENERATION,
}


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def derive(key: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=info).derive(key)


def sealed(key: bytes, number: int, value: bytes, aad: bytes) -> bytes:
    # Any nonce opens; these are fixed so that the file is the same each time.
    nonce = hashlib.sha256(b"fixture %d" % number).digest()[:13]
    return b"\x01" + nonce + AESCCM(key, 16).encrypt(nonce, value, aad)


def vault(records: dict[str, bytes], boot: int, generation: int) -> dict[str, bytes]:
    """The records of a store, the same in each: every one of this generation."""
    seal, set_key = derive(VAULT_KEY, b"warden vault seal"), derive(VAULT_KEY, b"warden vault set")
    found = {"key": sealed(mac(ROOT_KEY, b"warden vault 1"), 0, VAULT_KEY, b"warden key 1")}
    tag = 0
    for number, (name, value) in enumerate(records.items()):
        aad = cbor2.dumps(["warden record 1", name, generation])
        blob = sealed(seal, 100 * generation + number, value, aad)
        found[f"{name}.{generation:08x}"] = blob
        contribution = mac(set_key, cbor2.dumps([name, generation]) + blob)
        tag ^= int.from_bytes(contribution, "big")
    counters = COUNTERS | {"boot": boot}
    body = [1, generation, tag.to_bytes(32, "big"), counters, []]
    commit = cbor2.dumps(body, canonical=True)
    found["commit"] = sealed(seal, 100 * generation + 99, commit, b"warden commit 1")
    return found


NOW = vault(RECORDS, COUNTERS["boot"], GENERATION)
BEFORE = vault({"broker": b"lake.example"}, 11, GENERATION - 1)

# -- raw flash ------------------------------------------------------------------------------------


def in_unit(unit: int, data: bytes) -> bytes:
    return data + b"\xff" * (-len(data) % unit)


def with_crc(data: bytes) -> bytes:
    return data + crc32(data).to_bytes(4, "big")


def header(unit: int, bank: int, banks: int, size: int) -> bytes:
    fields = b"WdnB" + bytes((1, bank, banks, 0))
    return in_unit(
        unit, with_crc(fields + unit.to_bytes(2, "big") + (size // unit).to_bytes(2, "big"))
    )


def change(unit: int, sequence: int, entries: list[tuple[int, str, bytes]], mark: bytes) -> bytes:
    body, check = b"", 0
    for kind, name, record in entries:
        lead = bytes((kind, len(name))) + len(record).to_bytes(2, "big") + name.encode()
        body += lead + record
        check = crc32(lead, check)
    body = in_unit(unit, body)
    head = b"Wd" + (len(body) // unit).to_bytes(2, "big") + sequence.to_bytes(4, "big")
    return in_unit(unit, with_crc(head + check.to_bytes(4, "big"))) + body + in_unit(unit, mark)


def flash(unit: int, banks: int, sectors: int, sector: int, tail: bytes) -> dict[str, Any]:
    """The vault of today in the last bank, behind the one that it replaced."""
    size = sectors // banks * sector
    snapshot = change(unit, 7, [(1, name, record) for name, record in BEFORE.items()], bytes(4))
    gone = [(0, name, b"") for name in BEFORE if name not in NOW]
    latest = [(1, name, record) for name, record in NOW.items()] + gone
    log = header(unit, banks - 1, banks, size) + snapshot
    now = change(unit, 8, latest, bytes(4))
    if len(now) <= sector and len(log) % sector + len(now) > sector:
        log += b"\xff" * (-len(log) % sector)
    log += now + tail
    parts = {bank * size: header(unit, bank, banks, size) for bank in range(banks - 1)}
    parts[(banks - 1) * size] = log
    return {
        "unit": unit,
        "banks": banks,
        "sectors": sectors,
        "sector": sector,
        # Where, from the beginning of the flash, and what; all else is FF.
        "image": {str(at): data.hex() for at, data in parts.items()},
    }


def flashes() -> dict[str, Any]:
    cut = change(16, 9, [(1, "commit", bytes(100))], b"\xff\x0f\x00\xff")
    return {
        "16-byte units": flash(16, 2, 8, 1024, b""),
        "256-byte units, three banks": flash(256, 3, 12, 4096, b""),
        "32-byte units, the last head cut": flash(32, 2, 8, 1024, b"Wd\x00" + b"\xff" * 29),
        "16-byte units, the last mark cut": flash(16, 2, 8, 1024, cut),
    }


# -- NVS ------------------------------------------------------------------------------------------


def slot(number: int, sequence: int, name: str, record: bytes) -> dict[str, str]:
    tie = sequence.to_bytes(4, "big")
    head = bytes((1, len(name))) + len(record).to_bytes(2, "big") + tie
    head += crc32(head + name.encode()).to_bytes(4, "big") + name.encode()
    blobs = {f"w{number:02x}0": head + record[:1536]}
    for chunk in range(1, -(-len(record) // 1536)):
        blobs[f"w{number:02x}{chunk}"] = tie + record[1536 * chunk : 1536 * (chunk + 1)]
    return {key: blob.hex() for key, blob in blobs.items()}


def nvs(older: bool) -> dict[str, str]:
    """older: what a cut between the new commit and the old one's removal leaves as well, and a
    chunk without its first."""
    blobs = {}
    for number, (name, record) in enumerate(NOW.items()):
        blobs |= slot(3 * number, 20 + number, name, record)
    if older:
        blobs |= slot(0x8F, 19, "commit", BEFORE["commit"]) | {"w8e1": bytes(20).hex()}
    return blobs


def files() -> dict[str, dict[str, Any]]:
    """File name → content."""
    stored = {
        "vault-v1-file.json": {"whole": {name: blob.hex() for name, blob in NOW.items()}},
        "vault-v1-flash.json": flashes(),
        "vault-v1-nvs.json": {"whole": nvs(False), "cut behind the commit": nvs(True)},
    }
    return {name: EXPECTED | {"stored": content} for name, content in stored.items()}


def text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    for name, content in files().items():
        (HERE / name).write_text(text(content))
