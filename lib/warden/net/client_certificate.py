"""This device's own certificate: loaded at each hand-shake, and its dates.

Imported only where the policy asks for a certificate. The key lies in the vault, and in the memory
of the TLS stack while a connection lasts.
"""

import asyncio

from micropython import const

from .. import unload
from ..errors import PeerError
from ..wire import cbor
from .verifier import TrustAnchors

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_EXPIRED = const(45)
# bad_certificate to certificate_unknown, unknown_ca, access_denied (RFC 5246 §7.2).
_ABOUT_OURS = const((42, 43, 44, 45, 46, 48, 49))
_WARN_S = const(30 * 86400)
_DAY_MS = const(86400000)


class ClientTrust(TrustAnchors):
    """The CAs and pins of a device that has a certificate of its own.

    vault: its record `certificate` holds [leaf, intermediate, key], DER. new: the same of a
    rotation, to be used instead, or None.
    """

    def __init__(
        self, cas: "list[bytes]", pins: "list[bytes]", vault: "Any", new: "Any" = None
    ) -> None:
        super().__init__(cas, pins)
        self.is_used = True  # on the next connection (token/ways.py)
        self._vault = vault
        self._new = new

    def own(self) -> "Any":
        """Return [leaf, intermediate, key] for one connection. PeerError own-certificate-missing.

        Read anew each time: between connections the key stays sealed.
        """
        if self._new is not None:
            return self._new
        record = self._vault.get("certificate")
        if record is None:
            raise PeerError("own-certificate-missing", "the vault holds no certificate")
        return cbor.decode(record)

    def load(self, context: "Any") -> None:
        """Load the CAs, and this device's certificate with the CA that issued it."""
        super().load(context)
        if not self.is_used:
            return
        leaf, intermediate, key = self.own()
        # The stack reads one certificate of each call, and sends all of them in this order.
        context.load_cert_chain(leaf, key)
        context.load_cert_chain(intermediate, key)

    def refused(self, code: str, now: int, alert: int) -> str:
        """Return the code for a server that ended a hand-shake behind its own certificate.

        code: without this. now: unix seconds. alert: of the server (RFC 5246 §7.2), or any byte.
        """
        if not self.is_used or (code != "link-closed" and code != "tls-failed"):
            return code
        if alert == _EXPIRED or now > end(self.own()):
            return "own-certificate-expired"
        return "own-certificate-refused" if alert in _ABOUT_OURS else code


def end(certificate: "Any") -> int:
    """Return when the leaf of [leaf, …] ends, unix seconds. PeerError certificate-malformed."""
    from ..wire import x509

    ends = x509.fields(certificate[0])[2]
    unload("warden.wire.x509")
    unload("warden.net.dial")  # whose file it shares in the build for boards
    return ends


async def watch(agent: "Any") -> None:
    """Report once a day, as an incident, a certificate that ends within 30 days."""
    while True:
        await agent.session_up.wait()
        left = end(agent.trust.own()) - agent.clock.now()
        if left < _WARN_S:
            agent.log("own-certificate-expires", "in %d days" % (left // 86400))
            agent.report("own-certificate-expires", "certificate")
        await asyncio.sleep_ms(_DAY_MS)
