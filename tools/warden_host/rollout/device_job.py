"""Bring one release to one device: a job of the engine.

The job queries the device's state, sends the manifest and the chunks that the device asks for, and
waits for the result of its trial. A lost message costs one more query. The job of a device that
can't be reached ends with Away; the rollout starts another one when the device connects.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Any

from warden_client.protocol.strictcbor import is_u32

from warden_host import jsontext
from warden_host.engine import commands
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Job, Wait
from warden_host.engine.request import Request
from warden_host.errors import (
    HostError,
    LinkError,
    OutOfMemory,
    PeerError,
    StoreError,
    class_of,
)
from warden_host.names import AUTHORITY
from warden_host.release.opened import OpenRelease
from warden_host.rollout import messages
from warden_host.rollout.messages import Chunk, Unreachable
from warden_host.rollout.plan import (
    ABORTED,
    ACCEPTED,
    AWAY,
    DOWNLOADING,
    INSTALLING,
    LOST,
    REJECTED,
    SUPERSEDED,
    TESTING,
    VERIFYING,
    Plan,
)

# (state, reason, bytes that the device has). Called before the job sends anything; it raises
# not-serving to end the job.
Report = Callable[[str, str, int], None]
Status = dict[str, Any]
_Steps = Generator[Wait, FleetEvent | None, None]
_Command = tuple[Job, Wait]  # that was sent, and what its job waits for
_REPLY_S = 15.0
_FIRST_POLL_S, _POLL_S = 3.0, 60.0
_RETRY_S, _WORK_S = 5.0, 15.0
_MAX_DOWNLOAD_S = 7 * 3600.0  # a device aborts a download after six hours
# How long, and how often, a device may be silent during its update.
_SILENCE_S, _SILENCES = 120.0, 5
_START_S = 600.0  # time for a device to reach its authority after a start
_TRIES = 3  # downloads that the device may abort
_QUERIES = 10  # queries in a row whose answers allow no step
# Classes of refusals that another try may cure. Every other one rejects the release.
_CURABLE = (LinkError, StoreError, OutOfMemory)
# An image of these is asked for in chunks, if a web server gave it.
_CORRUPT = ("image-mismatch", "payload-tampered")


def job(engine: Engine, release: OpenRelease, device: str, plan: Plan, report: Report) -> Job:
    """Return the job that updates one device.

    Its result: {"state", "reason"}. Away: the device could not be reached. Lost: it accepted the
    update and sent nothing afterwards. "cut" is true if `report` ended the job.
    """
    return _DeviceJob(engine, release, device, plan, report).run()


class _Finished(Exception):
    """The job has its result."""

    def __init__(self, state: str, reason: str = "") -> None:
        super().__init__(state, reason)
        self.result = {"state": state, "reason": reason}


class _DeviceJob:
    """The state of one device's update, and its steps."""

    def __init__(
        self, engine: Engine, release: OpenRelease, device: str, plan: Plan, report: Report
    ) -> None:
        self._engine = engine
        self._release = release
        self._device = device
        self._plan = plan
        self._report = report
        self._tries = 0
        self._queries = 0
        self._deflates = False  # whether the device takes compressed chunks
        self._refused = 0
        self._started = False
        self._deferred = False  # it verifies our manifest at its next start
        self._accepted = False  # it accepted our manifest
        self._order_boot: int | None = None  # the device's boot number when we sent the manifest
        self._image_corrupt = False  # its last image did not match the manifest
        self._silences = 0
        self._silent_since: float | None = None
        self._worked_until = self._now + _MAX_DOWNLOAD_S
        # Bounds the messages to a device that asks for the same chunk for ever.
        self._messages_left = 4 * (release.total // 256) + 64

    def run(self) -> Job:
        """Query the device and act on its answer until the update has a result."""
        try:
            while True:
                try:
                    status = yield from self._send_command({})
                    self._queries += 1
                    if self._queries > _QUERIES:
                        raise _Finished(ABORTED, "update-state")
                    yield from self._continue(status)
                except Unreachable as error:
                    yield from self._wait_out_silence(error)
        except Unreachable as error:
            return {"state": AWAY, "reason": str(error)}
        except _Finished as finished:
            return finished.result
        except HostError as error:
            # A device that left the fleet is no failure of the release.
            state = SUPERSEDED if error.code in ("revoked", "device-unknown") else ABORTED
            return {"state": state, "reason": error.code, "cut": error.code == "not-serving"}

    def _wait_out_silence(self, error: Unreachable) -> _Steps:
        """Wait for a device that verifies or restarts; raise `error` if that takes long."""
        if self._silent_since is None:
            self._silent_since = self._now
            self._silences += 1
        silent = self._now - self._silent_since
        late = silent > (_START_S if self._deferred else _SILENCE_S)
        late = late or (error.retry_s is None and not self._started)
        if late or self._silences > _SILENCES:
            raise error
        retry_s = _RETRY_S if error.retry_s is None else error.retry_s
        if retry_s:
            yield from self._wait_for_event(retry_s)

    def _continue(self, status: Status) -> _Steps:
        """Do the next step for a device in this state; return when it is to be queried again."""
        self._check_flash_state(status)
        self._check_report(status)
        self._deflates = status.get("deflate") is True
        ours = status.get("sequence") == self._release.sequence
        state = status.get("state")
        if ours and state in (DOWNLOADING, VERIFYING, INSTALLING):
            self._accepted, self._deferred = True, False
        if status.get("running") == self._release.sequence or (state == TESTING and ours):
            yield from self._wait_for_trial()
        elif state == DOWNLOADING and ours and status.get("want") is not None:
            yield from self._send_chunks(status)
        elif state in (VERIFYING, INSTALLING) or (state == DOWNLOADING and ours):
            yield from self._wait_for_device(state)
        elif state == TESTING or (state == DOWNLOADING and status.get("sequence") == 0):
            # On trial with another release, or verifying a manifest.
            yield from self._pause(_RETRY_S)
        elif state == DOWNLOADING:
            # Another release: this one replaces it.
            yield from self._send_command({"abort": True})
        elif self._deferred and not self._restarted:
            yield from self._pause(_RETRY_S)  # this status belongs to an earlier manifest
        elif self._deferred and self._tries >= _TRIES:
            raise _Finished(ABORTED, "update-state")  # it loses our manifest at every start
        else:
            self._image_corrupt = ours and status.get("reason") in _CORRUPT
            yield from self._send_manifest()

    def _wait_for_device(self, state: str) -> _Steps:
        """Wait while the device verifies, or fetches the image from a web server."""
        if self._now > self._worked_until:
            raise _Finished(ABORTED, "update-timeout")
        self._queries = 0
        self._started = True
        self._report(state, "", 0)
        yield from self._wait_for_event(_WORK_S)

    def _check_flash_state(self, status: Status) -> None:
        """Finish if the device's flash holds the result, whose event may be lost."""
        sequence = self._release.sequence
        if status.get("failed") == sequence:
            ours = status.get("sequence") == sequence
            reason = jsontext.slug(status.get("reason")) if ours and status.get("reason") else ""
            raise _Finished(REJECTED, reason or "trial-failed")
        confirmed = status.get("confirmed")
        if is_u32(confirmed) and confirmed >= sequence:
            # With a newer release the device is sound, but will never run this one.
            if confirmed == sequence:
                raise _Finished(ACCEPTED)
            raise _Finished(REJECTED, "old-manifest")

    def _check_report(self, status: Status) -> None:
        """Finish if the status reports the end of our update, and not of an earlier one.

        A device that verified the manifest at its start reports 0 for one that it can't read.
        """
        sequence, expected = status.get("sequence"), self._release.sequence
        if (self._accepted and sequence == expected) or (
            self._restarted and sequence in (0, expected)
        ):
            self._check_final(status)

    @property
    def _restarted(self) -> bool:
        """Return whether the device proved a later boot than that of our manifest."""
        return self._order_boot is not None and self._boot > self._order_boot

    @property
    def _boot(self) -> int:
        return self._engine.state(self._device).mark.boot

    def _send_manifest(self) -> _Steps:
        self._tries += 1
        self._order_boot, self._deferred, self._accepted = None, False, False
        if self._tries > 1:
            yield from self._pause(_RETRY_S)
        self._report(DOWNLOADING, "", 0)
        self._started = True
        known = self._engine.store.device(self._device)
        # A web server with a wrong image must not use up the tries of this release.
        by_web = self._plan.web and not self._image_corrupt
        order = messages.manifest(self._release, known, self._plan, by_web)
        self._order_boot = self._boot
        status = yield from self._send_command(order)
        if status.get("state") == DOWNLOADING and status.get("sequence") == 0:
            # It is short of memory: it verifies the manifest after a restart, without its agent.
            self._deferred = True
            self._queries = 0
            yield from self._wait_for_event(_WORK_S)
        elif status.get("state") == DOWNLOADING:
            self._accepted, self._deferred = True, False
            yield from self._send_chunks(status)
        else:
            self._check_final(status)

    def _send_chunks(self, status: Status) -> _Steps:
        """Send chunks as the device asks for them, and one ahead where it has room for it."""
        self._started = True
        ahead: tuple[Chunk, _Command] | None = None
        try:
            while status.get("want") is not None:
                chunk = messages.parse(status["want"])
                if ahead is not None and ahead[0] == chunk:
                    command, ahead = ahead[1], None
                else:
                    command = self._send_chunk(chunk)
                after = messages.following(self._release, chunk) if status.get("ahead") else None
                if ahead is None and after is not None:
                    ahead = after, self._send_chunk(after)
                status = yield from self._wait_for_status(command, True)
                self._queries = 0
        except Unreachable:
            return  # a chunk or its reply is lost: query the state
        finally:
            if ahead is not None:
                ahead[1][0].close()
        self._check_final(status)
        if status.get("state") == TESTING:
            self._report(INSTALLING, "", self._release.total)  # reported when it is over
            yield from self._wait_for_trial()

    def _check_final(self, status: Status) -> None:
        """Finish if the device rejected the update, or aborted it for the last time."""
        state, reason = status.get("state"), jsontext.slug(status.get("reason") or "unknown")
        if state == REJECTED:
            raise _Finished(REJECTED, reason)
        if state == ABORTED and self._tries >= _TRIES:
            raise _Finished(ABORTED, reason)

    def _wait_for_trial(self) -> _Steps:
        """Wait for the result of the trial: an event, or the answer to a query."""
        self._report(TESTING, "", self._release.total)
        end, poll = self._now + self._plan.trial_s, _FIRST_POLL_S
        while self._now < end:
            event = yield Wait(self._is_from_device, min(end, self._now + poll), self._device)
            # Soon at first: its event may have crossed our query.
            poll = _FIRST_POLL_S if event is not None else min(_POLL_S, poll * 2)
            if event is not None and event.kind == "event":
                body = event.body
                if body.get("sequence") != self._release.sequence:
                    continue
                if body.get("state") == ACCEPTED:
                    raise _Finished(ACCEPTED)
                if body.get("state") == REJECTED:
                    raise _Finished(REJECTED, jsontext.slug(body.get("reason")))
                continue
            try:
                status = yield from self._send_command({})
            except Unreachable:
                continue
            self._check_flash_state(status)
            if status.get("running") == self._release.sequence or status.get("state") == TESTING:
                continue
            # It runs another release and reports no failure: staged, and not started yet.
        raise _Finished(LOST, "timed-out")

    # Messages

    def _send_chunk(self, chunk: Chunk) -> _Command:
        data = self._release.read(chunk.component, chunk.offset, chunk.length)  # may raise
        done = self._release.done(chunk.component, chunk.offset)
        self._report(DOWNLOADING, "", done)
        self._messages_left -= 1
        if self._messages_left < 0:
            raise _Finished(ABORTED, "update-chunk")
        if done + chunk.length == self._release.total:
            # The device verifies and installs before it replies.
            self._report(VERIFYING, "", self._release.total)
        return self._send(messages.chunk_data(chunk, data, self._deflates))

    def _send_command(self, args: dict[str, Any]) -> Generator[Wait, FleetEvent | None, Status]:
        """Send a command and return the status that the device replies, Aborted if it refuses."""
        return (yield from self._wait_for_status(self._send(args), bool(args)))

    def _send(self, args: dict[str, Any]) -> _Command:
        """Send a command; return its job, and what that waits for. Raises Unreachable."""
        request = Request(self._device, "update", args, AUTHORITY, timeout_s=_REPLY_S, quiet=True)
        try:
            command_job = commands.job(self._engine, request)
            return command_job, next(command_job)
        except PeerError as error:
            raise messages.unreachable(error) from None

    def _wait_for_status(
        self, command: _Command, ordered: bool
    ) -> Generator[Wait, FleetEvent | None, Status]:
        """Return the status that the device replies, Aborted if it refuses.

        ordered: the command is no query
        Raises: Unreachable, _Finished.
        """
        try:
            answer = yield from self._wait_for_reply(*command)
        except PeerError as error:
            raise messages.unreachable(error) from None
        self._silent_since = None
        reply = answer["reply"]
        if answer["ok"]:
            result = reply.get("result")
            if not isinstance(result, dict):
                raise _Finished(ABORTED, "bad-body")
            return result
        code = jsontext.slug(reply.get("error"))
        # command-failed: an unforeseen exception on the device says nothing about the release.
        if not issubclass(class_of(code), _CURABLE) and code != "command-failed":
            raise _Finished(REJECTED, code)
        if not ordered:
            raise Unreachable(code, _RETRY_S)  # a query was refused, not the release
        self._refused += 1
        if self._refused > _QUERIES:
            raise _Finished(ABORTED, code)
        return {"state": ABORTED, "reason": code}

    def _wait_for_reply(self, command_job: Job, wait: Wait) -> Job:
        """Return the answer; raise Unreachable as soon as a new session makes one impossible."""
        with contextlib.closing(command_job):
            while True:

                def either(event: FleetEvent, wait: Wait = wait) -> bool:
                    return wait.accepts(event) or self._is_from_device(event)

                event = yield Wait(either, wait.deadline, self._device)
                if event is not None and not wait.accepts(event):
                    if event.kind == "session":
                        raise Unreachable("no-session", 0.0)
                    self._check_report(event.body)  # its event crossed our command
                    continue
                try:
                    wait = command_job.send(event)
                except StopIteration as end:
                    result: dict[str, Any] = end.value
                    return result

    def _wait_for_event(self, seconds: float) -> _Steps:
        """Wait for an event or a session of the device, `seconds` at most."""
        event = yield Wait(self._is_from_device, self._now + seconds, self._device)
        if event is not None and event.kind == "event":
            self._check_report(event.body)

    def _pause(self, seconds: float) -> _Steps:
        end = self._now + seconds
        while self._now < end:
            yield from self._wait_for_event(end - self._now)

    def _is_from_device(self, event: FleetEvent) -> bool:
        if (event.device, event.app) != (self._device, AUTHORITY):
            return False
        return event.kind == "session" or (event.kind, event.name) == (
            "event",
            "update",
        )

    @property
    def _now(self) -> float:
        return self._engine.clock().steady
