"""What a chip computes is compared with this machine's results: each wrong one is named."""

import hashlib
import hmac
import secrets

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from warden_host.boards import self_test
from warden_host.errors import HostError


class Chip:
    """The connection to a board that computes rightly, but for `wrong`: result → instead of it."""

    def __init__(self, **wrong):
        self.wrong = wrong
        self.values = ()

    def ask(self, program, answer_s):
        call = (
            program.strip().splitlines()[-1].removeprefix("print(json.dumps(").removesuffix("))")
        )
        self.values = eval(call, {"self_test": lambda *values: values})  # noqa: S307
        key, text, point, signature = self.values
        return {
            "hmac": hmac.digest(key, text, "sha256").hex(),
            "sealed": AESCCM(key, 16).encrypt(bytes(13), text, key).hex(),
            "random": secrets.token_hex(16),
            "opens": [True, False],
            "valid": [valid(point, signature, hashlib.sha256(text).digest()), False],
        } | self.wrong


def valid(point, signature, digest):
    r, s = (int.from_bytes(part) for part in (signature[:32], signature[32:]))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    try:
        algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        key.verify(utils.encode_dss_signature(r, s), digest, algorithm)
    except InvalidSignature:
        return False
    return True


def test_a_chip_that_computes_rightly():
    names = ["HMAC-SHA-256", "AES-CCM", "random numbers"]
    assert self_test.run(Chip()) == [*names, "ECDSA P-256"]
    assert self_test.run(Chip(valid=[])) == names  # a board without updates


def test_no_answer_is_known_beforehand():
    first, second = Chip(), Chip()
    self_test.run(first)
    self_test.run(second)
    assert not set(first.values) & set(second.values)


@pytest.mark.parametrize(
    ("result", "value", "name"),
    [
        ("hmac", "00" * 32, "HMAC-SHA-256"),
        ("hmac", None, "HMAC-SHA-256"),
        ("sealed", "00" * 116, "AES-CCM"),
        ("opens", [False, False], "AES-CCM"),
        ("opens", [True, True], "AES-CCM"),  # it takes a message that was changed
        ("random", "", "random numbers"),
        ("random", "00" * 15, "random numbers"),
        ("random", "00" * 16, "random numbers"),
        ("random", "x" * 32, "random numbers"),
        ("valid", [False, False], "ECDSA P-256"),
        ("valid", [True, True], "ECDSA P-256"),
        ("valid", None, "ECDSA P-256"),
    ],
)
def test_what_is_computed_wrongly_is_named(result, value, name):
    with pytest.raises(HostError, match=f"board-failed: the chip computes wrongly: {name}$"):
        self_test.run(Chip(**{result: value}))
