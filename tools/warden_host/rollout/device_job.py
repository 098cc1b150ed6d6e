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
Tell = Callable[[str, str, int], None]
Status = dict[str, Any]
_ORDER_S = 15.0
_FIRST_POLL_S, _POLL_S = 3.0, 60.0
_AGAIN_S, _WORK_S = 5.0, 15.0
_LONGEST_S = 7 * 3600.0  # a device gives a download up after six hours
# How long, and how often, a device may be silent in the middle of its update.
_GAP_S, _GAPS = 120.0, 5
_START_S = 600.0  # as long as a device has to reach its authority after a start
_TRIES = 3  # of a download that the device aborts
_ASKS = 10  # of a device whose answers lead nowhere
# It can't be spoken with just now; everything else that sending raises is final.
_UNREACHED = ("timed-out", "no-session", "counter-exhausted", "quarantined")
_SPOILED = ("image-mismatch", "payload-tampered")
# Refusals that another try may cure. Any other is the device's judgement on the release.
_CURABLE = frozenset(
    {
        *("busy", "expired", "filesystem", "slot-full", "slot-damaged", "update-state"),
        *("update-chunk", "vault-limit", "vault-unwritten", "randomness", "command-failed"),
        *_SPOILED,
    }
)


def job(engine: Engine, shelf: OpenRelease, device: str, plan: Plan, tell: Tell) -> Job:
    """Result: {"state", "reason"}; Away where the device could not be reached, Lost where it took the update and was not heard of again. With
    "cut" where `tell` ended it: a device's own word never has that."""
    return _Delivery(engine, shelf, device, plan, tell).run()


class _Unreached(Exception):
    """again_s: it is there all the same, and may be asked again after so many seconds: at once where it began a new session, in which what we
    asked in the one before is not answered. None: nothing was heard of it."""

    def __init__(self, code: str, again_s: float | None = None) -> None:
        super().__init__(code)
        self.again_s = again_s


class _Over(Exception):
    """The device, or its silence, has the last word."""

    def __init__(self, state: str, reason: str = "") -> None:
        super().__init__(state, reason)
        self.result = {"state": state, "reason": reason}


class _Delivery:
    def __init__(
        self, engine: Engine, shelf: OpenRelease, device: str, plan: Plan, tell: Tell
    ) -> None:
        self._engine = engine
        self._shelf = shelf
        self._device = device
        self._plan = plan
        self._tell = tell
        self._tries = 0
        self._asks = 0
        self._packs = False  # whether the device takes compressed chunks
        self._refused = 0
        self._begun = False
        self._parked = False  # it judges our manifest at its next start
        self._taken = False  # it found our manifest good
        self._sent_in: int | None = None  # the boot in which our order was sent to it
        self._spoiled = False  # its last image was not the one that was signed
        self._gaps = 0
        self._silent_since: float | None = None
        self._worked_until = self._now + _LONGEST_S
        # A device that asks for the same chunk for ever costs so many messages, no more.
        self._left = 4 * (shelf.total // 256) + 64

    def run(self) -> Job:
        try:
            while True:
                try:
                    status = yield from self._order({})
                    self._asks += 1
                    if self._asks > _ASKS:
                        raise _Over(ABORTED, "update-state")
                    yield from self._go_on(status)
                except _Unreached as error:
                    yield from self._gap(error)
        except _Unreached as error:
            return {"state": AWAY, "reason": str(error)}
        except _Over as over:
            return over.result
        except HostError as error:
            # One that left the fleet says nothing about the release.
            state = SUPERSEDED if error.code in ("revoked", "device-unknown") else ABORTED
            return {"state": state, "reason": error.code, "cut": error.code == "not-serving"}

    def _gap(self, error: "_Unreached") -> Generator[Wait, FleetEvent | None, None]:
        """Off the air to judge the manifest, to start the update, or for the moment that its network needs: not away yet."""
        if self._silent_since is None:
            self._silent_since = self._now
            self._gaps += 1
        silent = self._now - self._silent_since
        late = silent > (_START_S if self._parked else _GAP_S)
        late = late or (error.again_s is None and not self._begun)
        if late or self._gaps > _GAPS:
            raise error
        again_s = _AGAIN_S if error.again_s is None else error.again_s
        if again_s:
            yield from self._listen(again_s)

    def _go_on(self, status: Status) -> Generator[Wait, FleetEvent | None, None]:
        """From what the device says of itself; comes back when it is to be asked again."""
        self._judge(status)
        self._verdict(status)
        self._packs = status.get("deflate") is True
        mine = status.get("sequence") == self._shelf.sequence
        state = status.get("state")
        if mine and state in (DOWNLOADING, VERIFYING, INSTALLING):
            self._takes_it()
        if status.get("running") == self._shelf.sequence or (state == TESTING and mine):
            yield from self._trial()
        elif state == DOWNLOADING and mine and status.get("want") is not None:
            yield from self._feed(status)
        elif state in (VERIFYING, INSTALLING) or (state == DOWNLOADING and mine):
            yield from self._work(state)
        elif state == TESTING or (state == DOWNLOADING and status.get("sequence") == 0):
            yield from self._pause(
                _AGAIN_S
            )  # on trial with another release, or it judges a manifest
        elif state == DOWNLOADING:
            yield from self._order({"abort": True})  # another release: this one takes its place
        elif self._parked and not self._reborn:
            yield from self._pause(_AGAIN_S)  # what it says now is of an older order
        elif self._parked and self._tries >= _TRIES:
            raise _Over(ABORTED, "update-state")  # our order is lost whenever it starts anew
        else:
            self._spoiled = mine and status.get("reason") in _SPOILED
            yield from self._begin()

    def _work(self, state: str) -> Generator[Wait, FleetEvent | None, None]:
        """It wants nothing of us for now: it verifies, or fetches the image from a web server."""
        if self._now > self._worked_until:
            raise _Over(ABORTED, "update-timeout")
        self._asks = 0
        self._begun = True
        self._tell(state, "", 0)
        yield from self._listen(_WORK_S)

    def _judge(self, status: Status) -> None:
        """What the flash says is what counts: the report of it may have got lost."""
        sequence = self._shelf.sequence
        if status.get("failed") == sequence:
            mine = status.get("sequence") == sequence
            reason = jsontext.slug(status.get("reason")) if mine and status.get("reason") else ""
            raise _Over(REJECTED, reason or "trial-failed")
        confirmed = status.get("confirmed")
        if is_u32(confirmed) and confirmed >= sequence:
            # A newer one is no failure of the device, but this one will never run on it.
            raise _Over(*((ACCEPTED,) if confirmed == sequence else (REJECTED, "old-manifest")))

    def _verdict(self, said: Status) -> None:
        """Its word on our order, and on no older one: of our number, once it took that. Of a device that judges manifests at its start also what
        it says of 0, where the manifest was too bad to have a number, but only since it started anew."""
        sequence, ours = said.get("sequence"), self._shelf.sequence
        if (self._taken and sequence == ours) or (self._reborn and sequence in (0, ours)):
            self._ended(said)

    def _takes_it(self) -> None:
        self._taken, self._parked = True, False

    @property
    def _reborn(self) -> bool:
        """Whether the device has proved a later start than the one in which our order was sent."""
        return self._sent_in is not None and self._boot > self._sent_in

    @property
    def _boot(self) -> int:
        return self._engine.state(self._device).mark.boot

    def _begin(self) -> Generator[Wait, FleetEvent | None, None]:
        self._tries += 1
        self._sent_in, self._parked, self._taken = None, False, False
        if self._tries > 1:
            yield from self._pause(_AGAIN_S)
        self._tell(DOWNLOADING, "", 0)
        self._begun = True
        known = self._engine.store.device(self._device)
        pair = next(pair for pair in known.pairs if pair.appid == AUTHORITY)
        order: dict[str, Any] = {"envelope": self._shelf.envelope}
        key = self._shelf.key_for(known.type, known.device, pair.k)
        if key is not None:
            order["key"] = key
        if policy.gate(known.policy) is not None:
            order["grant"] = True
        # A web server that sends something else must not use up the tries that the device gives this release.
        if self._shelf.by_web and (self._spoiled or not self._plan.web):
            order["https"] = False
        elif self._shelf.by_web and self._plan.web_pins:
            order["pins"] = [bytes.fromhex(pin) for pin in self._plan.web_pins]
        self._sent_in = self._boot
        status = yield from self._order(order)
        if status.get("state") == DOWNLOADING and status.get("sequence") == 0:
            # It is short of memory: it starts anew, and judges the manifest before its agent is loaded.
            self._parked = True
            self._asks = 0
            yield from self._listen(_WORK_S)
        elif status.get("state") == DOWNLOADING:
            self._takes_it()
            yield from self._feed(status)
        else:
            self._ended(status)

    def _feed(self, status: Status) -> Generator[Wait, FleetEvent | None, None]:
        """Chunk by chunk, as the device asks for them."""
        self._begun = True
        while status.get("want") is not None:
            number, component, offset, length = _wanted(status["want"])
            data = self._shelf.read(component, offset, length)  # of nothing else is told
            self._tell(DOWNLOADING, "", self._shelf.done(component, offset))
            self._left -= 1
            if self._left < 0:
                raise _Over(ABORTED, "update-chunk")
            if self._shelf.done(component, offset) + length == self._shelf.total:
                # The device verifies and installs within its reply, and says nothing else before that.
                self._tell(VERIFYING, "", self._shelf.total)
            packed = compress.pack(data) if self._packs else None
            chunk = {"data": data} if packed is None else {"z": packed}
            try:
                status = yield from self._order({"n": number, **chunk})
                self._asks = 0
            except _Unreached:
                return  # the chunk or its reply got lost: what is it at?
        self._ended(status)
        if status.get("state") == TESTING:
            self._tell(INSTALLING, "", self._shelf.total)  # known by its end
            yield from self._trial()

    def _ended(self, status: Status) -> None:
        """Of a status that wants nothing: has the device given the update up?"""
        state, reason = status.get("state"), jsontext.slug(status.get("reason") or "unknown")
        if state == REJECTED:
            raise _Over(REJECTED, reason)
        if state == ABORTED and self._tries >= _TRIES:
            raise _Over(ABORTED, reason)

    def _trial(self) -> Generator[Wait, FleetEvent | None, None]:
        """The device starts anew and says what came of it; where it does not say so, it is asked."""
        self._tell(TESTING, "", self._shelf.total)
        end, poll = self._now + self._plan.trial_s, _FIRST_POLL_S
        while self._now < end:
            news = yield Wait(self._speaks, min(end, self._now + poll), self._device)
            # Soon at first: its word may have crossed our question.
            poll = _FIRST_POLL_S if news is not None else min(_POLL_S, poll * 2)
            if news is not None and news.kind == "event":
                body = news.body
                if body.get("sequence") != self._shelf.sequence:
                    continue
                if body.get("state") == ACCEPTED:
                    raise _Over(ACCEPTED)
                if body.get("state") == REJECTED:
                    raise _Over(REJECTED, jsontext.slug(body.get("reason")))
                continue
            try:
                status = yield from self._order({})
            except _Unreached:
                continue
            self._judge(status)
            if status.get("running") == self._shelf.sequence or status.get("state") == TESTING:
                continue
            # It runs something else and says nothing of a failure: staged, and not started yet.
        raise _Over(LOST, "timed-out")

    # Messages

    def _order(self, args: dict[str, Any]) -> Generator[Wait, FleetEvent | None, Status]:
        """The device's status; where it refuses, one that says so. Raises _Unreached, _Over."""
        request = Request(self._device, "update", args, AUTHORITY, timeout_s=_ORDER_S, quiet=True)
        try:
            answer = yield from self._answered(commands.job(self._engine, request))
        except HostError as error:
            if error.code not in _UNREACHED:
                raise
            raise _Unreached(error.code) from None
        self._silent_since = None
        reply = answer["reply"]
        if answer["ok"]:
            result = reply.get("result")
            if not isinstance(result, dict):
                raise _Over(ABORTED, "bad-body")
            return result
        code = jsontext.slug(reply.get("error"))
        if code not in _CURABLE:
            raise _Over(REJECTED, code)
        if not args:
            raise _Unreached(code, _AGAIN_S)  # a question was refused, and not the release
        self._refused += 1
        if self._tries >= _TRIES or self._refused > _ASKS:
            raise _Over(ABORTED, code)
        return {"state": ABORTED, "reason": code}

    def _answered(self, asking: Job) -> Job:
        """The answer; or at once that none will come, when the device begins a session meanwhile."""
        news = None
        with contextlib.closing(asking):
            while True:
                try:
                    wait = asking.send(news)
                except StopIteration as end:
                    result: dict[str, Any] = end.value
                    return result

                def either(heard: FleetEvent, wait: Wait = wait) -> bool:
                    return wait.matches(heard) or self._speaks(heard)

                news = yield Wait(either, wait.deadline, self._device)
                while news is not None and not wait.matches(news):
                    if news.kind == "session":
                        raise _Unreached("no-session", 0.0)
                    self._verdict(news.body)  # its report crossed our question
                    news = yield Wait(either, wait.deadline, self._device)

    def _listen(self, seconds: float) -> Generator[Wait, FleetEvent | None, None]:
        """Until it speaks, or so long."""
        news = yield Wait(self._speaks, self._now + seconds, self._device)
        if news is not None and news.kind == "event":
            self._verdict(news.body)

    def _pause(self, seconds: float) -> Generator[Wait, FleetEvent | None, None]:
        end = self._now + seconds
        while self._now < end:
            yield from self._listen(end - self._now)

    def _speaks(self, news: FleetEvent) -> bool:
        if (news.device, news.app) != (self._device, AUTHORITY):
            return False
        return news.kind == "session" or (news.kind, news.name) == ("event", "update")

    @property
    def _now(self) -> float:
        return self._engine.clock().steady


def _wanted(want: Any) -> tuple[int, str, int, int]:
    """(number, component, offset, length). Raises bad-body."""
    if isinstance(want, list) and len(want) == 4:
        number, component, offset, length = want
        if is_u32(number) and is_u32(offset) and is_u32(length) and isinstance(component, str):
            return number, component, offset, length
    raise HostError("bad-body", "a device asked for a chunk in another form")
