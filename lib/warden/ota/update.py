"""Install one update, from the authority's command to the slot that the next start tries: its
states, and the work of each.

    update = Update(envelope, wrapped, granted)
    update.verify(vault, slots, running)       the manifest, and whether it fits
    update.start(vault, slots, running, chunk, now_ms)
    while update.step(): …                     the work between two messages, a few KB a call
    update.download                            takes chunks while there is one (ota/download.py)
    update.state, update.reason

state         work                                                      module
""            none yet
Downloading   the manifest is verified; fetch, hash and compare images  validate, download
Verifying     read the images back from the flash                       verify
Installing    read their maps back, and stage the slot                  verify
Testing       over: the next start of the board tries the slot
Rejected      over: the update is bad
Aborted       over: the same manifest may be sent again, and goes on where this one stopped

Each module is loaded for its state: what verifies a manifest takes 40 KB on the unix port.
"""

import gc
import sys

from .. import unload
from ..errors import LinkError, PeerError, WardenError
from .slots import SlotRecord, update_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import Vault
    from ..wire.suit_plan import Plan
    from .download import Download
    from .slots import Slots

# The module of what a plan is made of, which outlives the verification.
_KEPT = "warden.wire.suit_plan"


class Update:
    """The state of one update.

    envelope: the signed manifest, as it came
    wrapped: the wrapped key of an encrypted update, or None
    granted: its trial passes the gate without a code
    """

    def __init__(self, envelope: bytes, wrapped: "bytes | None", granted: bool) -> None:
        self.envelope = envelope
        self.wrapped = wrapped
        self.granted = granted
        self.plan: "Plan | None" = None  # from the verification of the manifest to the end
        self.key: "bytearray | None" = None  # of encrypted images
        self.state = self.reason = ""
        self.sequence = 0
        self.boot = 0  # the counter of starts, where this update's start has raised it
        self.download: "Download | None" = None
        self._work: "Any" = None  # a generator: what the present state does
        self._record: "Any" = None
        self._slots: "Any" = None

    def verify(self, vault: "Vault", slots: "Slots", running: "int | None") -> None:
        """Verify the manifest, and check that the update fits.

        Nothing of the update is written. The table of its release key may be (ota/key_table.py),
        where there is room for both.

        running: the slot that runs, None for neither
        Raises: PeerError or StoreError, and the update is over; MemoryError, and it is as it was.
        """
        try:
            run_transient(self._verify, vault, slots, running)
            self._move()
        except WardenError as error:
            # After a fault of the flash, or at the wrong moment, the same one may come again.
            again = isinstance(error, LinkError) or not isinstance(error, PeerError)
            self.end("Aborted" if again else "Rejected", error.code)
            raise
        except MemoryError:
            self._wipe()
            self.plan = None
            raise
        self.state = "Downloading"

    def _verify(self, vault: "Vault", slots: "Slots", running: "int | None") -> None:
        from ..vault import records
        from . import key_table
        from .manifest_verify import check_room, content_key, verify

        vendor, class_id, keys = records.load(vault, "release")
        made = verifiers(keys)
        key_table.attach(vault, slots, made)
        release = vendor, class_id, made
        plan = verify(vault, slots, running, release, self.envelope)
        self.sequence = plan.sequence
        spare = check_room(slots, plan, len(self.envelope))
        self.key = content_key(vault, plan, self.wrapped)
        key_table.keep(vault, slots, made, spare)
        self.plan = plan

    def _move(self) -> None:
        """Copy what lives on to the front of the heap. MemoryError.

        Between the pieces of what verified it, it would leave a hand-shake no large one.
        """
        from ..wire.suit_plan import copied

        gc.collect()
        self.plan = copied(self.plan)
        if self.key is not None:
            key = bytearray(self.key)
            self._wipe()
            self.key = key

    def waits(self) -> bool:
        """Return whether the manifest is verified and the download not begun."""
        return self.plan is not None and self._work is None and self.state == "Downloading"

    def by_web(self) -> bool:
        """Return whether web servers have all of the images."""
        plan = self.plan
        return plan is not None and all([one.uri[:8] == b"https://" for one in plan.images])

    def start(
        self, vault: "Vault", slots: "Slots", running: "int | None", chunk: int, now_ms: int
    ) -> None:
        """Begin the download of a verified update.

        running: the slot that runs; images that it holds are copied, not fetched
        chunk: bytes to ask for at a time, at most 1,024
        Raises: PeerError or StoreError, and the update is over.
        """
        try:
            from .download import Download

            self._record, self._slots = SlotRecord(vault), slots
            self.download = download = Download(self, self._record, slots, chunk, now_ms)
            self._work = download.run(running)
        except (MemoryError, WardenError) as error:
            raise self.fail(error)

    def step(self) -> bool:
        """Do a piece of the work that needs no message.

        Returns: whether there is more of it
        Raises: PeerError or StoreError, and the update is over.
        """
        work, self._work = self._work, None
        try:
            if work is None:
                if self.state != "Verifying":
                    return False
                # What fetched the images makes room for what reads them back.
                self.download = None
                self._wipe()
                for name in ("warden.ota.download", "warden.ota.reuse", "warden.ota.payload"):
                    unload(name)
                from .image_verify import stage

                work = stage(self, self._record, self._slots)
            more: bool = next(work)
            self._work = work
            return more
        except StopIteration:
            return self.state == "Verifying"
        except (OSError, MemoryError, WardenError) as error:
            raise self.fail(error)

    def abort(self) -> None:
        """End the update; the same manifest goes on with what was written.

        Raises: LinkError update-state: it is over.
        """
        if self.plan is None:
            raise LinkError("update-state", "no update is under way")
        self.end("Aborted", "aborted")

    def mismatch(self, code: str) -> None:
        """End an update whose image is not the manifest's; refuse it for good the third time."""
        refused = self._record.mismatched(self.sequence)
        self.end("Rejected" if refused else "Aborted", code)

    def fail(self, error: "OSError | MemoryError | WardenError") -> WardenError:
        """End an update that an error stopped, and return the error by its name."""
        found = update_error(error)
        self.end("Aborted", found.code)
        return found

    def end(self, state: str, reason: str = "") -> None:
        """Close the files, wipe the key, and keep nothing but the state."""
        work, self._work = self._work, None
        self.download = self.plan = None
        self.envelope = b""
        if work is not None:
            work.close()  # and its files with it: littlefs must not hear of them later
        self._wipe()
        self.state, self.reason = state, reason

    def _wipe(self) -> None:
        key, self.key = self.key, None
        if key is not None:
            from ..crypto import ct

            ct.wipe(key)


def verifiers(keys: "list[bytes]") -> "list[Any]":
    """Return the verifiers of the release keys of the record `release`.

    keys: 64 bytes of a P-256 key, or an RSA modulus
    """
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
    """Return work(*args), and unload the modules of Warden that the call loaded, however it ends.

    Of what they define, the result may hold a plan (wire/suit_plan.py), and nothing else.
    """
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
