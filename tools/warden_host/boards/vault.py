"""What a board's vault is, and whether it holds the secrets that this fleet has."""

import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from warden_host import jsontext
from warden_host.boards import programs
from warden_host.boards.connection import Board
from warden_host.names import AUTHORITY
from warden_host.store.store import Device

_ANSWER_S = 15.0
_INFO = b"warden provisioned"


@dataclass(frozen=True)
class VaultState:
    """kind: none, open, or the code of the error with which it does not open."""

    kind: str
    identity: object
    proof: str
    challenge: bytes

    @property
    def owner(self) -> str:
        """Return which device it says it is; empty where it says nothing."""
        if not isinstance(self.identity, list) or len(self.identity) != 2:
            return ""
        return jsontext.printable(f"{self.identity[1]} of type {self.identity[0]}"[:80])

    def proves(self, known: Device) -> bool:
        """Return whether it has the authority's key that the fleet has for the device."""
        if self.identity != [known.type, known.device]:
            return False
        for pair in known.pairs:
            if pair.appid == AUTHORITY:
                key = HKDF(hashes.SHA256(), 16, None, _INFO + self.challenge).derive(pair.k)
                return secrets.compare_digest(key.hex().encode(), self.proof.encode())
        return False


def ask(board: Board, pin: bytes) -> VaultState:
    """Return the state of the board's vault. Raises board-failed, board-lost."""
    challenge = secrets.token_bytes(16)
    program = programs.fill(programs.STATE, CHALLENGE=challenge, PIN=pin)
    state = board.ask(program, answer_s=_ANSWER_S, secret=True)
    kind = jsontext.slug(state.get("vault"))
    return VaultState(kind, state.get("identity"), str(state.get("proof")), challenge)
