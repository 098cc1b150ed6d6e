"""One release to one device, as a job of the engine: it asks, sends what the device wants, and waits for its word.

Nothing hangs on one message: whatever got lost, the device is asked for its state, and that says what to do next. A device that is not
there ends the job with Away; the rollout begins another one when it comes.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Any

from warden_host import jsontext
from warden_host.engine import commands
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Job, Wait
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.protocol.strictcbor import is_u32
from warden_host.release.opened import OpenRelease
from warden_host.rollout import compress
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

# (state, reason, bytes that the device has). Before anything is sent; it raises not-serving to end the job.
Report = Callable[[str, str, int], None]
Status = dict[str, Any]
_COMMAND_S = 15.0
_FIRST_POLL_S, _POLL_S = 3.0, 60.0
_RETRY_S, _WORK_S = 5.0, 15.0
_MAX_DOWNLOAD_S = 7 * 3600.0  # a device gives a download up after six hours
# How long, and how often, a device may be silent in the middle of its update.
_SILENCE_S, _SILENCES = 120.0, 5
_START_S = 600.0  # as long as a device has to reach its authority after a start
_TRIES = 3  # of a download that the device aborts
_QUERIES = 10  # of a device whose answers lead nowhere
# It can't be spoken with just now; everything else that sending raises is final.
_UNREACHABLE = ("timed-out", "no-session", "counter-exhausted", "quarantined")
_CORRUPT = ("image-mismatch", "payload-tampered")
# Refusals that another try may cure. Any other is the device's judgement on the release.
_CURABLE = frozenset(
    {
        *("busy", "expired", "filesystem", "slot-full", "slot-damaged", "update-state"),
        *("update-chunk", "vault-limit", "vault-unwritten", "randomness", "command-failed"),
        *_CORRUPT,
    }
)


def job(engine: Engine, release: OpenRelease, device: str, plan: Plan, report: Report) -> Job:
    """Result: {"state", "reason"}; Away where the device could not be reached, Lost where it took the update and was not heard of again. With
    "cut" where `tell` ended it: a device's own word never has that."""
    return _DeviceJob(engine, release, device, plan, report).run()


class _Unreachable(Exception):
    """again_s: it is there all the same, and may be asked again after so many seconds: at once where it began a new session, in which what we
    asked in the one before is not answered. None: nothing was heard of it."""

    def __init__(self, code: str, retry_s: float | None = None) -> None:
        super().__init__(code)
        self.retry_s = retry_s


class _Finished(Exception):
    """The device, or its silence, has the last word."""

    def __init__(self, state: str, reason: str = "") -> None:
        super().__init__(state, reason)
        self.result = {"state": state, "reason": reason}


class _DeviceJob:
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
        self._deferred = False  # it judges our manifest at its next start
        self._accepted = False  # it found our manifest good
        self._order_boot: int | None = None  # the boot in which our order was sent to it
        self._image_corrupt = False  # its last image was not the one that was signed
        self._silences = 0
        self._silent_since: float | None = None
        self._worked_until = self._now + _MAX_DOWNLOAD_S
        # A device that asks for the same chunk for ever costs so many messages, no more.
        self._messages_left = 4 * (release.total // 256) + 64

    def run(self) -> Job:
        try:
            while True:
                try:
                    status = yield from self._send_command({})
                    self._queries += 1
                    if self._queries > _QUERIES:
                        raise _Finished(ABORTED, "update-state")
                    yield from self._continue(status)
                except _Unreachable as error:
                    yield from self._wait_out_silence(error)
        except _Unreachable as error:
            return {"state": AWAY, "reason": str(error)}
        except _Finished as finished:
            return finished.result
        except HostError as error:
            # One that left the fleet says nothing about the release.
            state = SUPERSEDED if error.code in ("revoked", "device-unknown") else ABORTED
            return {"state": state, "reason": error.code, "cut": error.code == "not-serving"}

    def _wait_out_silence(self, error: _Unreachable) -> Generator[Wait, FleetEvent | None, None]:
        """Off the air to judge the manifest, to start the update, or for the moment that its network needs: not away yet."""
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

    def _continue(self, status: Status) -> Generator[Wait, FleetEvent | None, None]:
        """From what the device says of itself; comes back when it is to be asked again."""
        self._check_flash_state(status)
        self._check_report(status)
        self._deflates = status.get("deflate") is True
        ours = status.get("sequence") == self._release.sequence
        state = status.get("state")
        if ours and state in (DOWNLOADING, VERIFYING, INSTALLING):
            self._mark_accepted()
        if status.get("running") == self._release.sequence or (state == TESTING and ours):
            yield from self._wait_for_trial()
        elif state == DOWNLOADING and ours and status.get("want") is not None:
            yield from self._send_chunks(status)
        elif state in (VERIFYING, INSTALLING) or (state == DOWNLOADING and ours):
            yield from self._wait_for_device(state)
        elif state == TESTING or (state == DOWNLOADING and status.get("sequence") == 0):
            yield from self._pause(
                _RETRY_S
            )  # on trial with another release, or it judges a manifest
        elif state == DOWNLOADING:
            yield from self._send_command(
                {"abort": True}
            )  # another release: this one takes its place
        elif self._deferred and not self._restarted:
            yield from self._pause(_RETRY_S)  # what it says now is of an older order
        elif self._deferred and self._tries >= _TRIES:
            raise _Finished(ABORTED, "update-state")  # our order is lost whenever it starts anew
        else:
            self._image_corrupt = ours and status.get("reason") in _CORRUPT
            yield from self._send_manifest()

    def _wait_for_device(self, state: str) -> Generator[Wait, FleetEvent | None, None]:
        """It wants nothing of us for now: it verifies, or fetches the image from a web server."""
        if self._now > self._worked_until:
            raise _Finished(ABORTED, "update-timeout")
        self._queries = 0
        self._started = True
        self._report(state, "", 0)
        yield from self._wait_for_event(_WORK_S)

    def _check_flash_state(self, status: Status) -> None:
        """What the flash says is what counts: the report of it may have got lost."""
        sequence = self._release.sequence
        if status.get("failed") == sequence:
            ours = status.get("sequence") == sequence
            reason = jsontext.slug(status.get("reason")) if ours and status.get("reason") else ""
            raise _Finished(REJECTED, reason or "trial-failed")
        confirmed = status.get("confirmed")
        if is_u32(confirmed) and confirmed >= sequence:
            # A newer one is no failure of the device, but this one will never run on it.
            raise _Finished(
                *((ACCEPTED,) if confirmed == sequence else (REJECTED, "old-manifest"))
            )

    def _check_report(self, status: Status) -> None:
        """Its word on our order, and on no older one: of our number, once it took that. Of a device that judges manifests at its start also what
        it says of 0, where the manifest was too bad to have a number, but only since it started anew."""
        sequence, our_sequence = status.get("sequence"), self._release.sequence
        if (self._accepted and sequence == our_sequence) or (
            self._restarted and sequence in (0, our_sequence)
        ):
            self._check_final(status)

    def _mark_accepted(self) -> None:
        self._accepted, self._deferred = True, False

    @property
    def _restarted(self) -> bool:
        """Whether the device has proved a later start than the one in which our order was sent."""
        return self._order_boot is not None and self._boot > self._order_boot

    @property
    def _boot(self) -> int:
        return self._engine.state(self._device).mark.boot

    def _send_manifest(self) -> Generator[Wait, FleetEvent | None, None]:
        self._tries += 1
        self._order_boot, self._deferred, self._accepted = None, False, False
        if self._tries > 1:
            yield from self._pause(_RETRY_S)
        self._report(DOWNLOADING, "", 0)
        self._started = True
        known = self._engine.store.device(self._device)
        pair = next(pair for pair in known.pairs if pair.appid == AUTHORITY)
        order: dict[str, Any] = {"envelope": self._release.envelope}
        key = self._release.key_for(known.type, known.device, pair.k)
        if key is not None:
            order["key"] = key
        if policy.gate(known.policy) is not None:
            order["grant"] = True
        # A web server that sends something else must not use up the tries that the device gives this release.
        if self._release.by_web and (self._image_corrupt or not self._plan.web):
            order["https"] = False
        elif self._release.by_web and self._plan.web_pins:
            order["pins"] = [bytes.fromhex(pin) for pin in self._plan.web_pins]
        self._order_boot = self._boot
        status = yield from self._send_command(order)
        if status.get("state") == DOWNLOADING and status.get("sequence") == 0:
            # It is short of memory: it starts anew, and judges the manifest before its agent is loaded.
            self._deferred = True
            self._queries = 0
            yield from self._wait_for_event(_WORK_S)
        elif status.get("state") == DOWNLOADING:
            self._mark_accepted()
            yield from self._send_chunks(status)
        else:
            self._check_final(status)

    def _send_chunks(self, status: Status) -> Generator[Wait, FleetEvent | None, None]:
        """Chunk by chunk, as the device asks for them."""
        self._started = True
        while status.get("want") is not None:
            number, component, offset, length = _parse_want(status["want"])
            data = self._release.read(component, offset, length)  # of nothing else is told
            self._report(DOWNLOADING, "", self._release.done(component, offset))
            self._messages_left -= 1
            if self._messages_left < 0:
                raise _Finished(ABORTED, "update-chunk")
            if self._release.done(component, offset) + length == self._release.total:
                # The device verifies and installs within its reply, and says nothing else before that.
                self._report(VERIFYING, "", self._release.total)
            packed = compress.pack(data) if self._deflates else None
            chunk = {"data": data} if packed is None else {"z": packed}
            try:
                status = yield from self._send_command({"n": number, **chunk})
                self._queries = 0
            except _Unreachable:
                return  # the chunk or its reply got lost: what is it at?
        self._check_final(status)
        if status.get("state") == TESTING:
            self._report(INSTALLING, "", self._release.total)  # known by its end
            yield from self._wait_for_trial()

    def _check_final(self, status: Status) -> None:
        """Of a status that wants nothing: has the device given the update up?"""
        state, reason = status.get("state"), jsontext.slug(status.get("reason") or "unknown")
        if state == REJECTED:
            raise _Finished(REJECTED, reason)
        if state == ABORTED and self._tries >= _TRIES:
            raise _Finished(ABORTED, reason)

    def _wait_for_trial(self) -> Generator[Wait, FleetEvent | None, None]:
        """The device starts anew and says what came of it; where it does not say so, it is asked."""
        self._report(TESTING, "", self._release.total)
        end, poll = self._now + self._plan.trial_s, _FIRST_POLL_S
        while self._now < end:
            fleet_event = yield Wait(
                self._is_from_device, min(end, self._now + poll), self._device
            )
            # Soon at first: its word may have crossed our question.
            poll = _FIRST_POLL_S if fleet_event is not None else min(_POLL_S, poll * 2)
            if fleet_event is not None and fleet_event.kind == "event":
                body = fleet_event.body
                if body.get("sequence") != self._release.sequence:
                    continue
                if body.get("state") == ACCEPTED:
                    raise _Finished(ACCEPTED)
                if body.get("state") == REJECTED:
                    raise _Finished(REJECTED, jsontext.slug(body.get("reason")))
                continue
            try:
                status = yield from self._send_command({})
            except _Unreachable:
                continue
            self._check_flash_state(status)
            if status.get("running") == self._release.sequence or status.get("state") == TESTING:
                continue
            # It runs something else and says nothing of a failure: staged, and not started yet.
        raise _Finished(LOST, "timed-out")

    # Messages

    def _send_command(self, args: dict[str, Any]) -> Generator[Wait, FleetEvent | None, Status]:
        """The device's status; where it refuses, one that says so. Raises _Unreached, _Over."""
        request = Request(
            self._device, "update", args, AUTHORITY, timeout_s=_COMMAND_S, quiet=True
        )
        try:
            answer = yield from self._wait_for_reply(commands.job(self._engine, request))
        except HostError as error:
            if error.code not in _UNREACHABLE:
                raise
            raise _Unreachable(error.code) from None
        self._silent_since = None
        reply = answer["reply"]
        if answer["ok"]:
            result = reply.get("result")
            if not isinstance(result, dict):
                raise _Finished(ABORTED, "bad-body")
            return result
        code = jsontext.slug(reply.get("error"))
        if code not in _CURABLE:
            raise _Finished(REJECTED, code)
        if not args:
            raise _Unreachable(code, _RETRY_S)  # a question was refused, and not the release
        self._refused += 1
        if self._tries >= _TRIES or self._refused > _QUERIES:
            raise _Finished(ABORTED, code)
        return {"state": ABORTED, "reason": code}

    def _wait_for_reply(self, command_job: Job) -> Job:
        """The answer; or at once that none will come, when the device begins a session meanwhile."""
        fleet_event = None
        with contextlib.closing(command_job):
            while True:
                try:
                    wait = command_job.send(fleet_event)
                except StopIteration as end:
                    result: dict[str, Any] = end.value
                    return result

                def either(event: FleetEvent, wait: Wait = wait) -> bool:
                    return wait.matches(event) or self._is_from_device(event)

                fleet_event = yield Wait(either, wait.deadline, self._device)
                while fleet_event is not None and not wait.matches(fleet_event):
                    if fleet_event.kind == "session":
                        raise _Unreachable("no-session", 0.0)
                    self._check_report(fleet_event.body)  # its report crossed our question
                    fleet_event = yield Wait(either, wait.deadline, self._device)

    def _wait_for_event(self, seconds: float) -> Generator[Wait, FleetEvent | None, None]:
        """Until it speaks, or so long."""
        fleet_event = yield Wait(self._is_from_device, self._now + seconds, self._device)
        if fleet_event is not None and fleet_event.kind == "event":
            self._check_report(fleet_event.body)

    def _pause(self, seconds: float) -> Generator[Wait, FleetEvent | None, None]:
        end = self._now + seconds
        while self._now < end:
            yield from self._wait_for_event(end - self._now)

    def _is_from_device(self, fleet_event: FleetEvent) -> bool:
        if (fleet_event.device, fleet_event.app) != (self._device, AUTHORITY):
            return False
        return fleet_event.kind == "session" or (fleet_event.kind, fleet_event.name) == (
            "event",
            "update",
        )

    @property
    def _now(self) -> float:
        return self._engine.clock().steady


def _parse_want(want: Any) -> tuple[int, str, int, int]:
    """(number, component, offset, length). Raises bad-body."""
    if isinstance(want, list) and len(want) == 4:
        number, component, offset, length = want
        if is_u32(number) and is_u32(offset) and is_u32(length) and isinstance(component, str):
            return number, component, offset, length
    raise HostError("bad-body", "a device asked for a chunk in another form")
