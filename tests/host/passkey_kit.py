"""An authenticator of passkeys without hardware (WebAuthn level 3), which can lie."""

import base64
import hashlib
import json
import os
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

UP, UV, AT, ED = 0x01, 0x04, 0x40, 0x80


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Authenticator:
    """One passkey on P-256. Keywords of create() and get() replace what an honest one says."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = os.urandom(16)
        self.user = b""
        self.count = 0

    def create(self, options: dict[str, Any], origin: str, **lies: Any) -> dict[str, Any]:
        """Answer navigator.credentials.create()."""
        self.user = base64.urlsafe_b64decode(options["user"]["id"] + "==")
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        attested = bytes(16) + len(self.id).to_bytes(2) + self.id + cbor2.dumps(cose)
        data = self._data(options["rp"]["id"], lies, AT) + attested
        fmt = lies.get("fmt", "none")
        response = {
            "clientDataJSON": _client("webauthn.create", options, origin, lies),
            "attestationObject": encode(
                cbor2.dumps({"fmt": fmt, "attStmt": {}, "authData": data})
            ),
        }
        return self._credential(response | lies.get("response", {}))

    def get(self, options: dict[str, Any], origin: str, **lies: Any) -> dict[str, Any]:
        """Answer navigator.credentials.get()."""
        self.count = lies.get("count", self.count + 1)
        data = self._data(options["rpId"], lies) + lies.get("more", b"")
        client = _client("webauthn.get", options, origin, lies)
        signed = data + hashlib.sha256(base64.urlsafe_b64decode(client + "==")).digest()
        key = lies.get("key", self.key)
        response = {
            "clientDataJSON": client,
            "authenticatorData": encode(data),
            "signature": encode(key.sign(signed, ec.ECDSA(hashes.SHA256()))),
            "userHandle": encode(lies.get("user", self.user)),
        }
        return self._credential(response | lies.get("response", {}))

    def _data(self, party: str, lies: dict[str, Any], more: int = 0) -> bytes:
        flags = lies.get("flags", UP | UV) | more
        party = lies.get("party", party)
        return hashlib.sha256(party.encode()).digest() + bytes([flags]) + self.count.to_bytes(4)

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        id_ = encode(self.id)
        return {"id": id_, "rawId": id_, "type": "public-key", "response": response}


def _client(kind: str, options: dict[str, Any], origin: str, lies: dict[str, Any]) -> str:
    data = {"type": kind, "challenge": options["challenge"], "origin": origin}
    return encode(json.dumps(data | lies.get("client", {})).encode())
