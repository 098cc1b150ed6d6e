"""An update that the authority ordered, and the judgement on it: before anything is written, by the agent or at a start before there is one (ota/deferred.py). What
judges it is large and needed for a moment; forgotten afterwards, it gives 40 KB back on the unix port.
"""

import sys

from .. import unload
from ..errors import LinkError, PeerError, WardenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import Vault
    from ..wire.suit_plan import Plan
    from .download import Slots

# The module of what a plan is made of, which outlives the judgement.
_KEPT = "warden.wire.suit_plan"


class Order:
    """envelope, wrapped (the key of an encrypted update, or None): as they came. granted: its trial passes the gate without a code.

    After judge(): plan, and key, which is to be wiped; or state and reason say how it was refused."""

    def __init__(self, envelope: bytes, wrapped: "bytes | None", granted: bool) -> None:
        self.envelope = envelope
        self.wrapped = wrapped
        self.granted = granted
        self.plan: "Plan | None" = None
        self.key: "bytearray | None" = None
        self.state = self.reason = ""
        self.sequence = 0
        self.boot = 0  # the counter of starts, where this order's start has raised it

    def judge(self, vault: "Vault", slots: "Slots", running: "int | None") -> None:
        """running: the slot that runs. PeerError or StoreError when it is refused; nothing is written."""
        try:
            run_transient(self._judge, vault, slots, running)
        except WardenError as error:
            # After a fault of the flash, or at the wrong moment, the same order may come again.
            again = isinstance(error, LinkError) or not isinstance(error, PeerError)
            self.state, self.reason = "Aborted" if again else "Rejected", error.code
            raise

    def drop(self, state: str = "", reason: str = "") -> None:
        """Nothing comes of it, whatever the judgement said."""
        key, self.key, self.plan = self.key, None, None
        self.state, self.reason = state, reason
        if key is not None:
            from ..crypto import ct

            ct.wipe(key)

    def by_web(self) -> bool:
        """Whether web servers have all of the images."""
        plan = self.plan
        return plan is not None and all([one.uri[:8] == b"https://" for one in plan.images])

    def _judge(self, vault: "Vault", slots: "Slots", running: "int | None") -> None:
        from ..vault import records
        from .validate import admit, judge

        vendor, class_id, keys = records.load(vault, "release")
        release = vendor, class_id, verifiers(keys)
        plan = judge(vault, slots, running, release, self.envelope)
        self.sequence = plan.sequence
        self.key = admit(vault, slots, plan, len(self.envelope), self.wrapped)
        self.plan = plan


def verifiers(keys: "list[bytes]") -> "list[Any]":
    """Release keys, as the record `release` has them: 64 bytes of a P-256 key, or an RSA modulus."""
    made: "list[Any]" = []
    for key in keys:
        if len(key) == 64:
            from ..crypto import p256

            made.append(p256.PublicKey(key))
        else:
            from ..crypto import rsa

            made.append(rsa.PublicKey(key))
    return made


def run_transient(work: "Callable[..., Any]", *args: "Any") -> "Any":
    """Return work(*args), and unload the modules of Warden that the call loaded, however it ends: a plan may live on, and nothing
    else that comes out of them."""
    before = list(sys.modules)
    try:
        return work(*args)
    finally:
        # One by one, without a list of them: there may be no memory left for it.
        while _loaded_since(before):
            unload(_loaded_since(before))


def _loaded_since(before: "list[str]") -> str:
    for name in sys.modules:
        if name not in before and name.startswith("warden.") and name != _KEPT:
            return name
    return ""
