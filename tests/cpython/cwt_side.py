"""The other side of tests/host/protocol/test_cose.py: the package `cwt`, in a virtual environment
of its own because it wants an older cbor2. Reads one JSON list of requests from standard input,
writes one JSON list of answers; bytes are hex.

["mac", key, kid, payload, aad]                      [message] ["encrypt", alg, key, protected,
nonce, payload, aad] [message], protected as a list of pairs ["sign", alg, key in PEM, payload,
aad, detached]    [message] ["read", alg, key, kid, aad, message]                a COSE_Mac0:
[payload], or "refused" ["open", alg, key, protected, nonce, aad, ciphertext] [plaintext], or
"refused": by cwt's key alone, because cwt has no messages with a partial IV
"""

import json
import sys

import cbor2
from cwt import COSE, COSEKey
from cwt.exceptions import CWTError

unhex = bytes.fromhex


def untagged(value):
    return cbor2.dumps(list(value.value)).hex()


def answer(request):
    kind, *parts = request
    cose = COSE.new()
    if kind == "mac":
        key, kid, payload, aad = map(unhex, parts)
        secret = COSEKey.from_symmetric_key(alg="HS256", key=key, kid=kid)
        protected = {1: 5, 4: kid}
        message = cose.encode_and_mac(
            payload, secret, protected, external_aad=aad, out="cbor2/CBORTag"
        )
        return untagged(message)
    if kind == "encrypt":
        alg, key, protected, nonce, payload, aad = parts
        secret = COSEKey.from_symmetric_key(alg=alg, key=unhex(key), kid=b"kid")
        headers = {
            label: unhex(value) if isinstance(value, str) else value for label, value in protected
        }
        message = cose.encode_and_encrypt(
            unhex(payload),
            secret,
            headers,
            {5: unhex(nonce)},
            external_aad=unhex(aad),
            out="cbor2/CBORTag",
        )
        return untagged(message)
    if kind == "sign":
        alg, pem, payload, aad, detached = parts
        private = COSEKey.from_pem(pem, kid="k", alg=alg)
        number = {"ES256": -7, "ESP256": -9, "PS256": -37}[alg]
        message = cose.encode_and_sign(
            unhex(payload), private, {1: number}, external_aad=unhex(aad), out="cbor2/CBORTag"
        )
        fields = list(message.value)
        if detached:
            fields[2] = None
        return cbor2.dumps(fields).hex()
    try:
        if kind == "open":
            alg, *rest = parts
            key, protected, nonce, aad, ciphertext = map(unhex, rest)
            secret = COSEKey.from_symmetric_key(alg=alg, key=key, kid=b"kid")
            structure = cbor2.dumps(["Encrypt0", protected, aad])
            return secret.decrypt(ciphertext, nonce, structure).hex()
        alg, key, kid, aad, message = parts
        secret = COSEKey.from_symmetric_key(alg=alg, key=unhex(key), kid=unhex(kid))
        tagged = cbor2.dumps(cbor2.CBORTag(17, cbor2.loads(unhex(message))))
        return cose.decode(tagged, secret, external_aad=unhex(aad)).hex()
    except CWTError:
        return "refused"


if __name__ == "__main__":
    json.dump([answer(request) for request in json.load(sys.stdin)], sys.stdout)
