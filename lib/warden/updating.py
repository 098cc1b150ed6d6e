"""Updates on a connected device: the authority's `update` orders, and what a trial wants. Loaded where the board has slots.

    {"envelope": bytes}        take this update; judged before anything is written. With "key": the wrapped key of an encrypted one
                               (payload.py); with "grant": true its trial passes the gate without a code
                               With "pins": of the web server that has the image, where they are not the broker's; "https": false asks no
                               web server
    {"n": n, "data": bytes}    the chunk that was asked for; as "z" instead of "data" it is compressed (inflate.py)
    {"abort": true}            let go of it for now
    {}                         how is it going; with what runs, what was confirmed and what failed last

Each answer, and the event `update` to the authority whenever something changed, is a status: {"state", "reason", "sequence", "want"}, want being
null or [number, component, offset, length] of the one chunk to send next.

The device hands itself over: this is its own code, kept out of a heap that hardly ever needs it.
"""

import asyncio
import gc
import sys

from micropython import const

from . import records
from .errors import PeerError, WardenError
from .judges import forget, verifiers
from .slots import SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .boot import Outcome
    from .update import Updater

# Free bytes with which a second TLS connection is opened.
WEB_BYTES = 49152
_TRIAL_MS = const(
    600000
)  # for a trial to reach its authority; then the board starts anew, and the attempt has counted


class Updating:
    """device: the one that is connected. outcome: what boot() made of the slots; slots: the board's. health: what the application says
    about itself during a trial, None for nothing."""

    def __init__(self, device: "Any", outcome: "Outcome", slots: "Any") -> None:
        self.poll_ms = 1000
        self._device = device
        self._outcome = outcome
        self._slots = slots
        self._updater: "Updater | None" = None
        self._news = asyncio.Event()
        self._report: "dict[str, Any] | None" = None
        self._web: "list[bytes] | None" = None  # the image is fetched by HTTPS: pins of the server
        if outcome.failed:
            self._say("Rejected", outcome.reason, outcome.failed)
        if outcome.mode == "recovery":
            self._say("Recovery", outcome.reason or "slot-damaged", outcome.failed)
        if outcome.trial:
            self._say("Testing", "", 0)
        self._deadline = device._uptime.now_ms() + _TRIAL_MS

    # -- orders -------------------------------------------------------------------------------

    async def obey(self, args: "dict[str, Any]") -> "dict[str, Any]":
        """The status. PeerError or StoreError: refused, and why."""
        device = self._device
        now = device._uptime.now_ms()
        keys = sorted(args)
        try:
            if "envelope" in args:
                self._start(args, now)
            elif keys in (["data", "n"], ["n", "z"]):
                self._chunk(args, now)
            elif keys == ["abort"]:
                self._current().abort()
            elif keys:
                raise PeerError("bad-body")
            updater = self._updater
            while updater is not None and updater.step():
                await asyncio.sleep_ms(0)  # the link goes on meanwhile, and a watchdog is fed
        except WardenError as error:
            device._incidents.add(error.code, "update", now)
            # To whoever asked it is a refusal, our own flash's as well.
            raise PeerError(error.code, error.text)
        self._news.set()
        if updater is not None and updater.state == "Testing":
            device._then = _restart
        return self.status() if keys else self._standing()

    def _chunk(self, args: "dict[str, Any]", now_ms: int) -> None:
        data = args.get("data", args.get("z"))
        if not isinstance(data, bytes):
            raise PeerError("bad-body")
        if self._web is not None:
            raise PeerError("update-state", "the image comes from a web server")
        updater = self._current()
        if "z" in args:
            wanted = updater.want()
            if wanted is not None:
                from .inflate import inflate

                data = inflate(data, wanted[3])
        updater.chunk(args["n"], data, now_ms)

    def _current(self) -> "Updater":
        if self._updater is None:
            raise PeerError("update-state", "no update is under way")
        return self._updater

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
        if self._web is not None:
            raise PeerError("update-state", "an update is under way: abort it first")
        updater = self._updater
        if updater is None or updater.state != "Downloading":
            from .update import CHUNK_MAX, Updater

            vendor, class_id, keys = records.load(self._device._vault, "release")
            # A chunk's message, with its topic, is under the limit of what the device takes.
            chunk = min(CHUNK_MAX, self._device.policy.max_message // 2)
            updater = self._updater = Updater(
                self._device._vault,
                self._slots,
                self._outcome.slot,
                verifiers(keys),
                vendor,
                class_id,
                chunk,
            )
        try:
            updater.start(envelope, now_ms, args.get("key"), "grant" in args)
        finally:
            updater.forget_keys()
            forget()
        if pins is not None and updater.by_web:
            gc.collect()
            # Less would do for the hand-shake alone, and leave nothing to the application meanwhile.
            if gc.mem_free() >= WEB_BYTES:
                self._web = pins

    def status(self) -> "dict[str, Any]":
        updater = self._updater
        if updater is None:
            if self._report is not None:
                return self._report
            return {"state": "Idle", "reason": "", "sequence": 0, "want": None}
        wanted = updater.want() if self._web is None else None
        return {
            "state": updater.state,
            "reason": updater.reason,
            "sequence": updater.sequence,
            "want": None if wanted is None else list(wanted),
        }

    def _standing(self) -> "dict[str, Any]":
        """The status, and what the flash says: whoever missed the last report learns what became of an update."""
        record = SlotRecord(self._device._vault)
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
            now = device._uptime.now_ms()
            authority = self._authority()
            if self._outcome.trial:
                # Behind a shut gate the application has not begun: whether it is well, nobody knows.
                await self._try(authority is not None and device.gate is None, now)
            updater = self._updater
            if updater is not None and self._web is not None:
                await self._fetch(updater)
                authority = self._authority()
                if updater.state == "Testing":
                    if authority is not None:
                        await self._tell(authority)
                    await _restart(device)
                continue
            if updater is not None and self._busy() and updater.tick(now):
                self._report = self.status()
            elif (
                updater is not None and updater.reason == "update-timeout" and self._report is None
            ):
                self._report = self.status()
                self._updater = None
            if self._report is not None and authority is not None:
                await self._tell(authority)
            await asyncio.sleep_ms(self.poll_ms)

    def _authority(self) -> "Any":
        """Its session, once it stands."""
        for session in self._device._sessions:
            if session.authority and session.stands:
                return session
        return None

    async def _tell(self, authority: "Any") -> None:
        body = self._report
        try:
            await self._device._send("update", "cose", authority.seal("update", 0, body))
            self._report = None
        except PeerError as error:
            # The connection broke: told after the next.
            self._device._log(error.code, error.text)

    async def _fetch(self, updater: "Updater") -> None:
        """From the web server. Where that fails, the authority is asked for the rest: what came stays."""
        from .https import fetch
        from .link import Link, Trust

        device, pins = self._device, self._web
        trust = Trust(device._trust.cas, pins or device._trust.pins)

        def connection() -> Link:
            gc.collect()  # a hand-shake wants its buffers in one piece
            return Link(trust, device._clock, device.policy.stall_ms)

        code = ""
        try:
            await fetch(updater, connection, device._uptime.now_ms)
            while updater.step():
                await asyncio.sleep_ms(0)
        except MemoryError:
            code = "tls-failed"
        except WardenError as error:
            code = error.code
        sys.modules.pop("warden.https", None)
        self._web = None
        if code:
            device._log(code, "the image from the web server")
            device._incidents.add(code, "update", device._uptime.now_ms())
        self._report = self.status()

    def _busy(self) -> bool:
        """Whether one is under way that is not staged yet. A fetched image is verified in between other tasks, so a rotation of the release keys may find it there."""
        updater = self._updater
        return updater is not None and updater.state in ("Downloading", "Verifying", "Installing")

    async def _try(self, stands: bool, now_ms: int) -> None:
        """Confirmed once the authority's session stands and the application says that it is well; else back."""
        device, outcome = self._device, self._outcome
        record = SlotRecord(device._vault)
        if not stands or outcome.slot is None:
            if now_ms >= self._deadline:
                device._log(
                    "trial-failed", "it did not reach its authority, or its gate stayed shut"
                )
                device._on_fatal()
            return
        sequence = record.slots[outcome.slot].sequence
        if await self._healthy():
            record.confirm(outcome.slot)
            self._slots.settle()
            outcome.trial = False
            self._say("Accepted", "", sequence)
        else:
            record.give_up(outcome.slot)
            outcome.trial = False
            device._log("trial-failed", "the application says that it is not well")
            device._on_fatal()

    async def _healthy(self) -> bool:
        check = self._device.health
        if check is None:
            return True
        try:
            result = check()
            if hasattr(result, "send"):
                # One that never answers must not keep a trial open for ever, with no way forward and none back.
                left = self._deadline - self._device._uptime.now_ms()
                result = await asyncio.wait_for_ms(result, max(1, left))
        except (
            Exception
        ) as error:  # of the application on trial: whatever it raises, it is not well
            self._device._log("trial-failed", repr(error))
            return False
        return result is True

    def _say(self, state: str, reason: str, sequence: int) -> None:
        self._device._log("update", state + " " + reason)
        self._report = {"state": state, "reason": reason, "sequence": sequence, "want": None}
        self._news.set()


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


async def _restart(device: "Any") -> None:
    """The slot is staged: off the air, and start it."""
    await device._client.disconnect()
    device._on_fatal()


def begin(device: "Any") -> "Updating | None":
    """For a device that connects; None where the board has no slots."""
    from . import boot

    outcome = boot.present
    if outcome is None or outcome.slots is None:
        return None
    return Updating(device, outcome, outcome.slots)
