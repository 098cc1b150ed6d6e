"""Where a device fetches its tokens and what it proves itself with: the vault's record `token`.

[1, number, address, client ID, secret, scope, way, trust]: number counts the changes (0 from
provisioning), address is https://host[:port]/path, way is "basic" or "body" (RFC 6749 §2.3.1),
trust is null for the broker's CAs and pins, or [[CA DER, …], [pin, …]] of the server.
"""

from micropython import const

from ..errors import UsageError
from ..net.http import address
from ..net.verifier import TrustAnchors

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_FORMAT = const(1)
_MAX_NUMBER = const((1 << 32) - 1)
_MAX_ADDRESS = const(512)
_MAX_TEXT = const(512)  # bytes of the client ID, the secret and the scope each
_MAX_CA = const(2048)


class Terms:
    """A checked record. trust: None for the broker's."""

    def __init__(self, fields: "Any") -> None:
        """Parse the record's list. UsageError bad-bundle; PeerError https-address."""
        good = isinstance(fields, list) and len(fields) == 8 and fields[0] == _FORMAT
        if good:
            _, number, uri, client, secret, scope, way, trust = fields
            good = type(number) is int and 0 <= number <= _MAX_NUMBER
            good = good and _is_text(uri, _MAX_ADDRESS) and _is_text(client, _MAX_TEXT)
            good = good and _is_text(secret, _MAX_TEXT) and isinstance(way, str)
            good = good and way in ("basic", "body")
            good = good and (scope == b"" or _is_text(scope, _MAX_TEXT))
            good = good and (trust is None or _is_trust(trust))
        if not good:
            raise UsageError("bad-bundle", "the token's terms are not as docs/tokens.md says")
        self.number = number
        self.host, self.port, self.path = address(uri)
        self.client = client
        self.secret = secret
        self.scope = scope
        self.basic = way == "basic"
        self.trust = None if trust is None else TrustAnchors(*trust)


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, bytes) and 0 < len(value) <= most


def _is_trust(trust: "Any") -> bool:
    if not isinstance(trust, list) or len(trust) != 2:
        return False
    for certificates, least, most, lowest, highest in (
        (trust[0], 1, 2, 1, _MAX_CA),
        (trust[1], 2, 6, 32, 32),
    ):
        if not isinstance(certificates, list) or not least <= len(certificates) <= most:
            return False
        for one in certificates:
            if not isinstance(one, bytes) or not lowest <= len(one) <= highest:
                return False
    return len(set(trust[1])) == len(trust[1])  # the backup must differ from the live pin
