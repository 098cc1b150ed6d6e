"""Compare what a board's chip computes with what this machine computes."""

import secrets

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from warden_host.boards import programs
from warden_host.boards.connection import Board
from warden_host.errors import HostError

_ANSWER_S = 15.0


def run(board: Board) -> list[str]:
    """Return what was compared. Raises board-failed where the chip computes wrongly.

    The values are new each time: no answer can be known beforehand.
    """
    key, text = secrets.token_bytes(32), secrets.token_bytes(100)
    signing = ec.generate_private_key(ec.SECP256R1())
    point = signing.public_key().public_numbers()
    r, s = utils.decode_dss_signature(signing.sign(text, ec.ECDSA(hashes.SHA256())))
    found = board.ask(
        programs.fill(
            programs.SELF_TEST,
            KEY=key,
            TEXT=text,
            POINT=point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"),
            SIGNATURE=r.to_bytes(32, "big") + s.to_bytes(32, "big"),
        ),
        answer_s=_ANSWER_S,
    )
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(text)
    sealed = AESCCM(key, 16).encrypt(bytes(13), text, key)
    valid = found.get("valid")
    results = {
        "HMAC-SHA-256": found.get("hmac") == mac.finalize().hex(),
        "AES-CCM": found.get("sealed") == sealed.hex() and found.get("opens") == [True, False],
        "random numbers": _is_random(found.get("random")),
    }
    if valid != []:  # a board without updates has no code for it
        results["ECDSA P-256"] = valid == [True, False]
    wrong = [name for name, right in results.items() if not right]
    if wrong:
        raise HostError(
            "board-failed",
            f"the chip computes wrongly: {', '.join(wrong)}",
            "don't use this board; report its firmware and chip",
        )
    return list(results)


def _is_random(value: object) -> bool:
    """Return whether this is 16 bytes in hex, not all the same: what a broken source gives."""
    try:
        data = bytes.fromhex(str(value))
    except ValueError:
        return False
    return len(data) == 16 and len(set(data)) > 1
