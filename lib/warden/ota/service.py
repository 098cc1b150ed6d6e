"""Updates on a connected device: the authority's `update` orders, and what a trial wants. Loaded where the board has slots.

    {"envelope": bytes}        take this update; judged before anything is written. With "key": the wrapped key of an encrypted one
                               (ota/payload.py); with "grant": true its trial passes the gate without a code
                               With "pins": of the web server that has the image, where they are not the broker's; "https": false asks no
                               web server
    {"n": n, "data": bytes}    the chunk that was asked for; as "z" instead of "data" it is compressed (ota/inflate.py)
    {"abort": true}            let go of it for now
    {}                         how is it going; with what runs, what was confirmed and what failed last

Each answer, and the event `update` to the authority whenever something changed, is a status: {"state", "reason", "sequence", "want"}, want being
null or [number, component, offset, length] of the one chunk to send next.

The device hands itself over: this is its own code, kept out of a heap that hardly ever needs it.
"""

import asyncio
import gc

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError, WardenError
from .slots import SlotRecord
from .update import Update

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from .boot import BootResult

# Free bytes with which a second TLS connection is opened.
WEB_BYTES = 49152
# A chunk is asked for that fits as often into what is free: a heap that is nearly full has no large pieces.
_CHUNKS_FREE = const(32)
_CHUNK_MAX = const(1024)
_LEAST_CHUNK = const(128)
_TRIAL_MS = const(
    600000
)  # for a trial to reach its authority; then the board starts anew, and the attempt has counted


class Updating:
    """device: the one that is connected. outcome: what boot() made of the slots; slots: the board's. health: what the application says
    about itself during a trial, None for nothing."""

    def __init__(self, device: "Agent", outcome: "BootResult", slots: "Any") -> None:
        self.poll_ms = 1000
        self._device = device
        self._outcome = outcome
        self._slots = slots
        # The one that came last. Until the authority is there, one whose manifest this start verified before there was an agent: not started yet.
        self._update, outcome.order = outcome.order, None
        self._news = asyncio.Event()
        self._report: "dict[str, Any] | None" = None
        self._web: "list[bytes] | None" = None  # the image is fetched by HTTPS: pins of the server
        update = self._update
        if update is not None and update.plan is None:
            device.report(update.reason, "update")
            self._say(update.state, update.reason, update.sequence)
        if outcome.failed:
            self._say("Rejected", outcome.reason, outcome.failed)
        if outcome.mode == "recovery":
            self._say("Recovery", outcome.reason or "slot-damaged", outcome.failed)
        if outcome.trial:
            self._say("Testing", "", 0)
        self._deadline = device.now_ms() + _TRIAL_MS

    # -- orders -------------------------------------------------------------------------------

    async def obey(self, args: "dict[str, Any]") -> "dict[str, Any]":
        """The status. PeerError or StoreError: refused, and why."""
        device = self._device
        now = device.now_ms()
        keys = sorted(args)
        try:
            self._resume(now)
            if "envelope" in args:
                self._start(args, now)
            elif keys in (["data", "n"], ["n", "z"]):
                self._chunk(args, now)
            elif keys == ["abort"]:
                self._current().abort()
            elif keys:
                raise PeerError("bad-body")
            args.clear()  # a chunk was written: what follows needs its memory
            while self._step():
                await asyncio.sleep_ms(0)  # the link goes on meanwhile, and a watchdog is fed
        except WardenError as error:
            device.report(error.code, "update")
            # To whoever asked it is a refusal, our own flash's as well.
            raise PeerError(error.code, error.text)
        self._news.set()
        if self._is("Testing"):
            device.after_reply = _restart
        return self.status() if keys else self._standing()

    def _step(self) -> bool:
        return self._update is not None and self._update.step()

    def _chunk(self, args: "dict[str, Any]", now_ms: int) -> None:
        data = args.get("data", args.get("z"))
        if not isinstance(data, bytes):
            raise PeerError("bad-body")
        if self._web is not None:
            raise LinkError("update-state", "the image comes from a web server")
        download = self._current().download
        if download is None:
            raise LinkError("update-state", "no chunk is wanted now")
        if "z" in args:
            wanted = download.want()
            if wanted is not None:
                from .inflate import inflate

                data = inflate(data, wanted[3])
        download.chunk(args["n"], data, now_ms)

    def _current(self) -> Update:
        if self._update is None:
            raise LinkError("update-state", "no update is under way")
        return self._update

    def _start(self, args: "dict[str, Any]", now_ms: int) -> None:
        envelope, key = args["envelope"], args.get("key", b"")
        for name in args:
            if name not in ("envelope", "key", "grant", "pins", "https"):
                raise PeerError("bad-body")
        if not (isinstance(envelope, bytes) and isinstance(key, bytes)):
            raise PeerError("bad-body")
        if args.get("grant", True) is not True:
            raise PeerError("bad-body")
        pins = _pins(args)
        if self._web is not None or self._busy():
            raise LinkError("update-state", "an update is under way: abort it first")
        update = Update(envelope, args.get("key"), "grant" in args)
        self._update = None
        try:
            update.verify(self._device.vault, self._slots, self._outcome.slot)
        except (WardenError, MemoryError) as error:
            # A reader that has no memory left says that the manifest is beyond its limits.
            if isinstance(error, WardenError) and error.code != "cbor-limit":
                self._update = update
                raise
            self._park(update)
            self._update = update
            return
        by_web = pins is not None and update.by_web()
        self._update = update
        self._begun(now_ms)
        if by_web:
            gc.collect()
            # Less would do for the hand-shake alone, and leave nothing to the application meanwhile.
            if gc.mem_free() >= WEB_BYTES:
                self._web = pins

    def _begun(self, now_ms: int) -> None:
        device = self._device
        gc.collect()
        # A chunk's message, with its topic, is under the limit of what the device takes; and on its way it lies in memory a few times.
        chunk = min(_CHUNK_MAX, device.policy.max_message // 2)
        while chunk > _LEAST_CHUNK and gc.mem_free() < _CHUNKS_FREE * chunk:
            chunk //= 2
        self._current().start(device.vault, self._slots, self._outcome.slot, chunk, now_ms)

    def _park(self, update: Update) -> None:
        """The judgement does not fit into the heap beside this agent: it is made at a start of its own. A web server is not asked then."""
        gc.collect()
        # None is taken during a trial, and a start less is what it would cost that.
        SlotRecord(self._device.vault).spare(self._outcome.slot, self._slots.engaged)
        from .deferred import park

        park(self._device.vault, update)
        update.end("Downloading")
        update.sequence = 0  # of which release is not known yet
        self._device.after_reply = _restart

    def _resume(self, now_ms: int) -> None:
        """With the order that this start has judged."""
        if self._waits():
            self._begun(now_ms)

    def _waits(self) -> bool:
        """Whether an update is verified and not started."""
        update = self._update
        return self._busy() and update.state == "Downloading" and update.download is None

    def let_go(self) -> None:
        """Of what was judged, and is not staged yet."""
        if self._waits():
            self._current().end("")  # nothing of it was reported
            self._update = None
        elif self._busy():
            self._current().abort()

    def status(self) -> "dict[str, Any]":
        """Return the state of the update that came last, and the chunk that is to come."""
        update = self._update
        if update is None:
            return self._report or _status("Idle", "", 0)
        download = update.download if self._web is None else None
        wanted = None if download is None else download.want()
        want = None if wanted is None else list(wanted)
        return _status(update.state, update.reason, update.sequence, want)

    def _standing(self) -> "dict[str, Any]":
        """The status, and what the flash says: whoever missed the last report learns what became of an update."""
        record = SlotRecord(self._device.vault)
        slot = self._outcome.slot
        status = dict(self.status())
        status["running"] = 0 if slot is None else record.slots[slot].sequence
        status["confirmed"] = record.mark
        status["failed"] = record.failed
        try:
            import deflate  # noqa: F401  (whether this firmware has it)

            status["deflate"] = True
        except ImportError:
            pass
        return status

    # -- the task -----------------------------------------------------------------------------

    async def run(self) -> None:
        """See to deadlines and to the trial; tell the authority what happened. Sleeps while there is nothing of the kind."""
        device = self._device
        while True:
            if not (self._outcome.trial or self._report or self._busy()):
                self._news.clear()
                await self._news.wait()
            now = device.now_ms()
            if self._outcome.trial:
                await self._try(now)
            begins = self._waits() and self._device.authority() is not None
            if begins or self._web is not None:
                await (self._begin(now) if begins else self._fetch())
                if self._is("Testing"):
                    await self._tell()
                    await _restart(device)
                continue
            # Nothing here keeps a download over a wait: its code is to go when another one follows.
            self._look(now)
            await self._tell()
            await asyncio.sleep_ms(self.poll_ms)

    def _look(self, now_ms: int) -> None:
        """Whether a chunk has to be asked for again, or is given up."""
        update = self._update
        if update is None:
            return
        if update.download is not None and update.download.tick(now_ms):
            self._report = self.status()
        elif update.reason == "update-timeout" and self._report is None:
            self._report = self.status()
            self._update = None

    async def _begin(self, now_ms: int) -> None:
        """The download of what this start has judged."""
        try:
            self._resume(now_ms)
            while self._step():
                await asyncio.sleep_ms(0)
        except WardenError as error:
            self._device.report(error.code, "update")
        self._report = self.status()

    async def _tell(self) -> None:
        """The authority, once it is there, what it has not heard yet."""
        body = self._report
        if body is None:
            return
        try:
            if await self._device.send("update", body):
                self._report = None
        except PeerError as error:
            # The connection broke: told after the next.
            self._device.log(error.code, error.text)

    async def _fetch(self) -> None:
        """From the web server. Where that fails, the authority is asked for the rest: what came stays."""
        from ..net.link import Link, TrustAnchors
        from .https import fetch

        device, pins = self._device, self._web
        trust = TrustAnchors(device.trust.cas, pins or device.trust.pins)

        def connection() -> Link:
            gc.collect()  # a hand-shake wants its buffers in one piece
            return Link(trust, device.clock, device.policy.stall_ms)

        code = ""
        try:
            try:
                await fetch(self._current(), connection, device.now_ms)
            finally:
                # Before the image is read back: that needs the memory.
                del fetch
                unload("warden.ota.https")
            while self._step():
                await asyncio.sleep_ms(0)
        except MemoryError:
            code = "out-of-memory"
        except WardenError as error:
            code = error.code
        self._web = None
        if code:
            device.log(code, "the image from the web server")
            device.report(code, "update")
        self._report = self.status()

    def _busy(self) -> bool:
        """Whether one is under way that is not staged yet. A fetched image is verified in between other tasks, so a rotation of the release keys may find it there."""
        return self._update is not None and self._update.plan is not None

    def _is(self, state: str) -> bool:
        return self._update is not None and self._update.state == state

    async def _try(self, now_ms: int) -> None:
        from .trial import attempt

        device, outcome = self._device, self._outcome
        # Behind a shut gate the application has not begun: whether it is well, nobody knows.
        stands = self._device.authority() is not None and device.gate is None
        accepted = await attempt(device, outcome, self._slots, stands, self._deadline - now_ms)
        if accepted is not None:
            self._say("Accepted", "", accepted)
        if not outcome.trial:
            unload("warden.ota.trial")

    def _say(self, state: str, reason: str, sequence: int) -> None:
        self._device.log("update", state + " " + reason)
        self._report = _status(state, reason, sequence)
        self._news.set()


def _status(
    state: str, reason: str, sequence: int, want: "list[Any] | None" = None
) -> "dict[str, Any]":
    return {"state": state, "reason": reason, "sequence": sequence, "want": want}


def _pins(args: "dict[str, Any]") -> "list[bytes] | None":
    """Of the web server: empty where they are the broker's; None when no web server is to be asked. PeerError bad-body."""
    pins = args.get("pins", [])
    good = isinstance(pins, list) and (not pins or 2 <= len(pins) <= 4)
    if not good or not isinstance(args.get("https", True), bool):
        raise PeerError("bad-body")
    for pin in pins:
        if not isinstance(pin, bytes) or len(pin) != 32:
            raise PeerError("bad-body")
    return pins if args.get("https", True) else None


async def _restart(device: "Agent") -> None:
    """The slot is staged: off the air, and start it."""
    await device.client.disconnect()
    device.restart()


def begin(device: "Agent") -> "Updating | None":
    """For a device that connects; None where the board has no slots."""
    from . import boot

    outcome = boot.present
    if outcome is None or outcome.slots is None:
        return None
    return Updating(device, outcome, outcome.slots)
