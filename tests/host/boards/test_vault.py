"""What a board says of its vault: proven, or not believed."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from warden_host.boards import vault
from warden_host.store.store import Device, Pair

KEY = bytes(range(32))
DEVICE = Device(
    "D1",
    "relay",
    "UNIX",
    "sealed",
    b"",
    pairs=(Pair("home", bytes(32), bytes(32), ()), Pair("authority", KEY, bytes(32), ())),
)


class Board:
    """The connection to a board that answers so. proof(challenge): in hex."""

    def __init__(self, proof, **answer):
        self.proof = proof
        self.answer = {"vault": "open", "identity": ["relay", "D1"]} | answer

    def ask(self, program, answer_s, secret):
        assert secret  # the PIN is in it
        challenge = eval(program.split("state(")[1].split(", ")[0])  # noqa: S307
        return self.answer | {"proof": self.proof(challenge)}


def right(challenge, key=KEY):
    return HKDF(hashes.SHA256(), 16, None, b"warden provisioned" + challenge).derive(key).hex()


def proven(board):
    return vault.ask(board, b"").proves(DEVICE)


def test_the_key_proves_it():
    assert proven(Board(right))


@pytest.mark.parametrize(
    "proof",
    [
        lambda challenge: right(challenge, bytes(32)),
        lambda challenge: right(bytes(16)),
        lambda challenge: right(challenge)[:-1],
        lambda challenge: "",
        lambda challenge: None,
        lambda challenge: "\u00e9" * 32,
        lambda challenge: [right(challenge)],
    ],
)
def test_other_answers_do_not(proof):
    assert not proven(Board(proof))


@pytest.mark.parametrize("identity", [["relay", "D2"], ["lamp", "D1"], "D1", None, []])
def test_another_identity(identity):
    assert not proven(Board(right, identity=identity))


def test_each_challenge_is_new():
    seen = []
    for _ in range(2):
        vault.ask(Board(lambda challenge: seen.append(challenge)), b"")
    assert seen[0] != seen[1]


@pytest.mark.parametrize("kind", ["\x1b[2J", "x" * 5000, 7, None])
def test_a_kind_that_is_none(kind):
    """It is shown to the person who decides whether the vault may be destroyed."""
    state = vault.ask(Board(right, vault=kind), b"")
    assert state.kind == "unreadable"
    shown = vault.ask(Board(right, identity=["\x1b[2J", "y" * 5000]), b"").owner
    assert "\x1b" not in shown and len(shown) <= 80
