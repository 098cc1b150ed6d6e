"""The authority's `update` commands on a connected device, and the trial of a new slot. Loaded
while there is one (ota/standby.py).

    {"envelope": bytes}        install this update; its manifest is verified before anything is
                               written. With "key": the wrapped key of an encrypted update
                               (ota/payload.py). With "grant": true its trial passes the gate
                               without a code. With "pins": of the web server that has the image,
                               where they are not the broker's. With "https": false no web server
                               is asked
    {"n": n, "data": bytes}    the chunk that was asked for; as "z" instead of "data" it is
                               compressed (ota/inflate.py)
    {"abort": true}            end the update for now
    {}                         report the state, and what the flash says: the release that runs,
                               the one that was confirmed, the one that failed

Each reply, and the event `update` to the authority when the state changes, is a status: {"state",
"reason", "sequence", "want"}. want: null, or [number, component, offset, length] of the chunk to
send next; with it "ahead": how many of the chunks behind it may be sent at once.
"""

import asyncio
import gc

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError, WardenError
from .result import restart
from .slots import SlotRecord
from .update import Update

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from .result import BootResult
    from .slots import Slots

# Free bytes with which a second TLS connection is opened.
WEB_BYTES = 49152
_CHUNK_MAX = const(1024)
_CHUNK_MIN = const(128)
# Chunks are so large that as many fit into the free heap: a heap that is nearly full has no large
# pieces.
_CHUNKS_FREE = const(32)
# For a trial to reach its authority; then the board starts anew, and the attempt has counted.
_TRIAL_MS = const(600000)


class UpdateService:
    """Updates and trials on a connected device.

    agent: the device's
    result: of the board's start
    slots: the board's
    last: the status that the service before this one left, None for the first of a start
    """

    def __init__(
        self,
        agent: "Agent",
        result: "BootResult",
        slots: "Slots",
        last: "dict[str, Any] | None" = None,
    ) -> None:
        self.poll_ms = 1000
        self._agent = agent
        self._result = result
        self._slots = slots
        # The update that came last. One whose manifest this start verified, before there was an
        # agent, waits for the authority's session.
        self._update, result.update = result.update, None
        self._last = last
        self._report: "dict[str, Any] | None" = None  # a status that is to be sent
        self._ahead = 0  # chunks that may be sent before they are asked for
        # Pins of the web server that the image is fetched from, until that ends.
        self._web: "list[bytes] | None" = None
        update = self._update
        if update is not None and update.plan is None:
            agent.report(update.reason, "update")
            self._note(update.state, update.reason, update.sequence)
        if result.failed and last is None:
            self._note("Rejected", result.reason, result.failed)
        if result.mode == "recovery" and last is None:
            self._note("Recovery", result.reason or "slot-damaged", result.failed)
        if result.trial:
            self._note("Testing", "", 0)
        self._deadline = agent.now_ms() + _TRIAL_MS

    # -- commands -----------------------------------------------------------------------------

    async def command(self, args: "dict[str, Any]") -> "dict[str, Any]":
        """Run an `update` command, and return the status.

        args: those of the command; emptied where they hold a chunk
        Raises: PeerError: refused; its code is reported as an incident.
        """
        agent = self._agent
        now = agent.now_ms()
        keys = sorted(args)
        try:
            self._start_waiting(now)
            if "envelope" in args:
                self._install(args, now)
            elif keys in (["data", "n"], ["n", "z"]):
                self._chunk(args, now)
            elif keys == ["abort"]:
                self._current().abort()
            elif keys:
                raise PeerError("bad-body")
            args.clear()  # the next steps need the chunk's memory
            while self._step():
                await asyncio.sleep_ms(0)  # the link goes on meanwhile, and a watchdog is fed
        except WardenError as error:
            agent.report(error.code, "update")
            # A sender's command is refused, whatever the cause.
            raise PeerError(error.code, error.text)
        if self._is("Testing"):
            agent.after_reply = restart
        return self.status() if keys else self._full_status()

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

    def _install(self, args: "dict[str, Any]", now_ms: int) -> None:
        from .deferred import read_order

        envelope, key, granted, pins = read_order(args)
        del read_order
        unload("warden.ota.deferred")
        if self._web is not None or self.busy():
            raise LinkError("update-state", "an update is under way: abort it first")
        self._update = update = Update(envelope, key, granted)
        try:
            update.verify(self._agent.vault, self._slots, self._result.slot)
        except (WardenError, MemoryError) as error:
            # A decoder without memory reports that the manifest is beyond its limits.
            if isinstance(error, WardenError) and error.code != "cbor-limit":
                raise
            self._defer(update)
            return
        by_web = pins is not None and update.by_web()
        self._start(now_ms)
        if by_web:
            gc.collect()
            # The hand-shake alone takes less, and would leave the application nothing meanwhile.
            if gc.mem_free() >= WEB_BYTES:
                self._web = pins

    def _start(self, now_ms: int) -> None:
        """Begin the download of the update, whose manifest was verified."""
        agent = self._agent
        gc.collect()
        # A chunk's message, with its topic, is below the policy's limit, and lies in memory a few
        # times on its way.
        chunk = min(_CHUNK_MAX, agent.policy.max_message // 2)
        while chunk > _CHUNK_MIN and gc.mem_free() < _CHUNKS_FREE * chunk:
            chunk //= 2
        self._ahead = int(gc.mem_free() >= 2 * _CHUNKS_FREE * chunk)
        self._current().start(agent.vault, self._slots, self._result.slot, chunk, now_ms)

    def _defer(self, update: Update) -> None:
        """Let the next start verify the manifest, which this heap has no room for.

        The image then comes from the authority.
        """
        gc.collect()
        self._update = None
        # During a trial no update can be installed, and a start would cost it an attempt.
        SlotRecord(self._agent.vault).spare(self._result.slot, self._slots.engaged)
        from .deferred import save

        save(self._agent.vault, update.envelope, update.wrapped, update.granted)
        update.end("Downloading")
        update.sequence = 0  # not known yet
        self._update = update
        self._agent.after_reply = restart

    def _start_waiting(self, now_ms: int) -> None:
        """Begin the download of an update that is verified and not begun, if there is one."""
        if self.waits():
            self._start(now_ms)

    def waits(self) -> bool:
        """Return whether an update is verified and not begun."""
        update = self._update
        return update is not None and update.waits()

    def drop(self) -> None:
        """End an update that is not staged yet: the release keys changed."""
        if self.waits():
            self._current().end("")  # nothing of it was reported
            self._update = None
        elif self.busy():
            self._current().abort()

    def status(self) -> "dict[str, Any]":
        """Return the state of the update that came last, and the chunk to send next."""
        update = self._update
        if update is None:
            return self._report or self._last or _status("Idle", "", 0)
        download = update.download if self._web is None else None
        wanted = None if download is None else download.want()
        if wanted is None:
            return _status(update.state, update.reason, update.sequence)
        status = _status(update.state, update.reason, update.sequence, list(wanted))
        status["ahead"] = self._ahead
        return status

    def _full_status(self) -> "dict[str, Any]":
        """Return the status and what the flash says, for an authority that missed a report."""
        record = SlotRecord(self._agent.vault)
        slot = self._result.slot
        status = dict(self.status())
        status["running"] = 0 if slot is None else record.slots[slot].sequence
        status["confirmed"] = record.confirmed
        status["failed"] = record.failed
        try:
            import deflate  # noqa: F401  (whether this firmware has it)

            status["deflate"] = True
        except ImportError:
            pass
        return status

    # -- the task -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch deadlines and the trial, fetch from web servers, and send reports.

        Returns: nothing is under way any more.
        """
        agent = self._agent
        while self._result.trial or self._report or self.busy():
            now = agent.now_ms()
            if self._result.trial:
                await self._run_trial(now)
            begins = self.waits() and agent.authority() is not None
            if begins or self._web is not None:
                await (self._start_deferred(now) if begins else self._fetch())
                if self._is("Testing"):
                    await self._send_report()
                    await restart(agent)
                continue
            # No local here holds a download over a wait: it would keep the module's code.
            self._check_deadline(now)
            await self._send_report()
            await asyncio.sleep_ms(self.poll_ms)

    def _check_deadline(self, now_ms: int) -> None:
        """Report a chunk that has to be asked for again, or an update that ran out of time."""
        update = self._update
        if update is None:
            return
        if update.download is not None and update.download.tick(now_ms):
            self._report = self.status()
        elif update.reason == "update-timeout" and self._report is None:
            self._report = self.status()
            self._update = None

    async def _start_deferred(self, now_ms: int) -> None:
        """Begin the download of an update that this start verified, and report it."""
        try:
            self._start_waiting(now_ms)
            while self._step():
                await asyncio.sleep_ms(0)
        except WardenError as error:
            self._agent.report(error.code, "update")
        self._report = self.status()

    async def _send_report(self) -> None:
        body = self._report
        if body is None:
            return
        try:
            if await self._agent.send("update", body):
                self._report = None
        except PeerError as error:
            # The connection broke: the report is sent after the next.
            self._agent.log(error.code, error.text)

    async def _fetch(self) -> None:
        """Fetch the images from the web server. If that fails, the authority sends the rest."""
        from ..net.link import Link
        from ..net.verifier import TrustAnchors
        from .https import fetch

        agent, pins = self._agent, self._web
        trust = TrustAnchors(agent.trust.cas, pins or agent.trust.pins)

        def connection() -> Link:
            gc.collect()  # a hand-shake needs its buffers in one piece
            return Link(trust, agent.clock, agent.policy.stall_ms)

        code = ""
        try:
            try:
                await fetch(self._current(), connection, agent.now_ms)
            finally:
                # The image is read back in the memory of what fetched it.
                del fetch
                unload("warden.ota.https")
                unload("warden.net.http")
            while self._step():
                await asyncio.sleep_ms(0)
        except MemoryError:
            code = "out-of-memory"
        except WardenError as error:
            code = error.code
        self._web = None
        if code:
            agent.log(code, "the image from the web server")
            agent.report(code, "update")
        self._report = self.status()

    def busy(self) -> bool:
        """Return whether an update is under way that is not staged yet.

        A fetched image is verified between other tasks: the release keys may change meanwhile.
        """
        return self._update is not None and self._update.plan is not None

    def _is(self, state: str) -> bool:
        return self._update is not None and self._update.state == state

    async def _run_trial(self, now_ms: int) -> None:
        from .trial import run

        agent, result = self._agent, self._result
        # Behind a shut gate the application has not begun, and can't be healthy.
        ready = agent.authority() is not None and agent.gate is None
        sequence = await run(agent, result, self._slots, ready, self._deadline - now_ms)
        if sequence is not None:
            self._note("Accepted", "", sequence)
        if not result.trial:
            unload("warden.ota.trial")

    def _note(self, state: str, reason: str, sequence: int) -> None:
        """Log a state, and send it when the authority's session is up."""
        self._agent.log("update", state + " " + reason)
        self._report = _status(state, reason, sequence)


def _status(
    state: str, reason: str, sequence: int, want: "list[Any] | None" = None
) -> "dict[str, Any]":
    return {"state": state, "reason": reason, "sequence": sequence, "want": want}
