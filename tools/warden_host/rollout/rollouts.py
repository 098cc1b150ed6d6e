"""Run the rollouts of an authority, on the thread that has the engine.

A rollout needs no caller that watches it. Its state is in fleet.db: after a restart of `warden
serve` it continues, and queries each device for its state first.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from warden_host.engine import commands
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Job, Wait
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.release.opened import OpenRelease
from warden_host.rollout import device_job
from warden_host.rollout import plan as rollout_plan
from warden_host.rollout import tally as rollout_tally
from warden_host.rollout.plan import (
    ABORTED,
    ACCEPTED,
    AWAY,
    BUSY,
    DOWNLOADING,
    FAILED,
    FINAL,
    INSTALLING,
    LOST,
    SUPERSEDED,
    TESTING,
    VERIFYING,
    WAITING,
    Plan,
)
from warden_host.rollout.tally import Tally
from warden_host.store.releases import Rollout, Target

Line = dict[str, Any]
# (line for a caller that watches, whether it is the last).
Watcher = Callable[[Line, bool], None]
_PROGRESS_S = 0.5
_RETRY_S = 120.0  # for a device that is away: it may hold a session that this host lost
_SNAPSHOT = 100
_CHECKED = 64  # watchers at which those that are gone are looked for: a rollout may rest for days
_WHOLE = (VERIFYING, INSTALLING, TESTING)
_QUIET = (
    WAITING,
    DOWNLOADING,
    VERIFYING,
    INSTALLING,
)  # states that are not announced to the fleet's watchers


@dataclass
class _Active:
    """A rollout that is not over."""

    number: int
    plan: Plan
    release: OpenRelease
    forgiven: int
    pardoned: set[str]  # devices whose failure the owner accepted
    tally: Tally
    reading: int = 0  # jobs that may still ask for chunks
    done: dict[str, int] = field(default_factory=dict)  # bytes that a device has
    reported: dict[str, float] = field(default_factory=dict)  # when its line was sent, steady
    tried: dict[str, float] = field(default_factory=dict)  # when its last job ended, steady
    wave: int = 0
    ended: str = ""
    advancing: bool = False
    again: bool = False


class Rollouts:
    """All rollouts that are not over."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.active: dict[int, _Active] = {}
        self._watchers: dict[int, list[Watcher]] = {}
        engine.watchers.add(self._on_event, "session")
        engine.start(self._ticker(), lambda _: None)

    def start(self, number: int, release: OpenRelease) -> None:
        """Start or continue a rollout that is active in fleet.db. Raises rollout-unknown."""
        if number in self.active:
            release.close()  # two callers resumed it at once: it would supersede itself
            return
        record = self._engine.store.rollout(number)
        active = _Active(
            number,
            rollout_plan.read_plan(record.plan),
            release,
            record.forgiven,
            _pardoned_devices(record),
            Tally(record.targets),
        )
        for target in record.targets:
            if target.state in BUSY and target.state != WAITING:
                self._set_state(active, target.device, WAITING, "")  # a restart cut its job
        for other in list(self.active.values()):
            self._supersede(other, active)
        self.active[number] = active
        self._notify_watchers(number, self._summary(active))
        self._advance(active)

    def stop(self, number: int, reason: str) -> None:
        """Stop a rollout: no device starts, downloads are aborted. Raises rollout-unknown."""
        active = self.active.get(number)
        if active is None:
            record = self._engine.store.rollout(number)
            if record.state == "active":
                self._engine.store.set_rollout(number, "stopped", reason, record.forgiven)
            return
        self._finish(active, "stopped", reason, by_owner=True)

    def watch(self, number: int, watcher: Watcher) -> None:
        """Pass the state so far to `watcher`, then each change. Raises rollout-unknown."""
        active = self.active.get(number)
        record = self._engine.store.rollout(number)
        rows = [
            [target.device, target.wave, target.state, target.reason] for target in record.targets
        ]
        for at in range(0, len(rows), _SNAPSHOT):
            watcher({"rollout": number, "targets": rows[at : at + _SNAPSHOT]}, False)
        if active is None:
            watcher(summarize(record), True)
            return
        if self._is_resting(active):
            watcher(self._summary(active) | {"state": "resting"}, True)
            return
        if len(self._watchers.get(number, [])) >= _CHECKED:
            self._notify_watchers(number, self._summary(active))
        self._watchers.setdefault(number, []).append(watcher)
        watcher(self._summary(active), False)

    def close(self) -> None:
        """Close the releases of all rollouts."""
        for active in self.active.values():
            active.release.close()
        self.active.clear()

    # Events and time

    def _on_event(self, fleet_event: FleetEvent) -> None:
        """Start the job of a device that was away or lost when it begins a session."""
        if fleet_event.app != AUTHORITY:
            return
        for active in list(self.active.values()):
            target = active.tally.targets.get(fleet_event.device)
            if target is not None and target.state == AWAY:
                self._queue_again(active, fleet_event.device)
            elif target is not None and target.state == LOST:
                self._start_device(active, fleet_event.device)

    def tick(self) -> None:
        """Retry devices that are away: their sessions may be up without an event that said so."""
        now = self._engine.clock().steady
        for active in list(self.active.values()):
            for device, target in list(active.tally.targets.items()):
                if target.state == AWAY and now - active.tried.get(device, 0.0) > _RETRY_S:
                    self._queue_again(active, device)

    def _ticker(self) -> Job:
        while True:
            yield Wait(None, self._engine.clock().steady + _RETRY_S / 4)
            self.tick()

    def _queue_again(self, active: _Active, device: str) -> None:
        self._set_state(active, device, WAITING, "")
        self._advance(active)

    def _advance(self, active: _Active) -> None:
        """Start every job that may start now, by the devices' states alone.

        A job that ends at once calls this again: that repeats the loop and does not nest it.
        """
        active.again = True
        if active.advancing:
            return
        active.advancing = True
        try:
            while active.again and not active.ended:
                active.again = self._step(active)
        finally:
            active.advancing = False
        if not active.ended and self._is_resting(active):
            self._notify_watchers(
                active.number, self._summary(active) | {"state": "resting"}, True
            )

    def _step(self, active: _Active) -> bool:
        """Start one job; return whether another may follow."""
        step = rollout_tally.next_step(active.plan, active.tally, active.forgiven)
        active.wave = step.wave
        if step.state != "active":
            self._finish(active, step.state, step.reason)
            return False
        if active.tally.downloading >= active.plan.at_once:
            return False
        device = active.tally.next_device(step.wave)
        if device is None:
            return False
        self._start_device(active, device)
        return True

    def _start_device(self, active: _Active, device: str) -> None:
        if device in active.tally.running:
            return
        active.tally.start(device)
        active.reading += 1
        before = active.tally.targets[device].state

        def report(state: str, reason: str, done: int) -> None:
            self._progress(active, device, state, reason, done)

        def done(result: Line | HostError) -> None:
            active.tally.finish(device)
            active.reading -= 1
            active.tried[device] = self._engine.clock().steady
            self._on_job_end(active, device, before, result)
            if active.ended and not active.reading:
                active.release.close()

        self._engine.start(
            device_job.job(self._engine, active.release, device, active.plan, report), done
        )

    def _on_job_end(
        self, active: _Active, device: str, before: str, result: Line | HostError
    ) -> None:
        if isinstance(result, HostError):
            result = {"state": ABORTED, "reason": result.code, "cut": result.code == "not-serving"}
        state, reason = result["state"], result["reason"]
        if result.get("cut") or active.tally.targets[device].state == SUPERSEDED:
            return  # ended by us: the next start of the service or the rollout queries it
        if state == AWAY and before == LOST:
            state, reason = LOST, "timed-out"
        self._set_state(active, device, state, reason)
        self._advance(active)

    def _progress(self, active: _Active, device: str, state: str, reason: str, done: int) -> None:
        target = active.tally.targets[device]
        # A device that has the whole image finishes, also after its rollout stopped.
        whole = target.state in _WHOLE
        if active.ended and whole and state == DOWNLOADING:
            self._abort_download(device)  # it asks for a chunk all the same
            self._set_state(active, device, WAITING, "")
            whole = False
        if target.state == SUPERSEDED or (active.ended and not whole):
            raise HostError("not-serving", "the rollout was stopped")
        active.done[device] = done
        if target.state != state:
            self._set_state(active, device, state, reason)
            if state == TESTING:
                self._advance(active)  # another device may download
            return
        now = self._engine.clock().steady
        if now - active.reported.get(device, 0.0) >= _PROGRESS_S:
            active.reported[device] = now
            self._notify_watchers(active.number, self._device_line(active, target))

    def _set_state(self, active: _Active, device: str, state: str, reason: str) -> None:
        before = active.tally.targets[device].state
        last = state in FINAL or state == LOST
        self._engine.store.set_target(active.number, device, state, reason, last)
        target = active.tally.change(device, state, reason, time.time())
        active.reported[device] = self._engine.clock().steady
        self._notify_watchers(active.number, self._device_line(active, target))
        if state in (ACCEPTED, SUPERSEDED) and device in active.pardoned and not active.ended:
            # It did not fail in the end: its pardon must not cover another device.
            active.pardoned.discard(device)
            active.forgiven -= 1
            self._engine.store.set_rollout(active.number, "active", "", active.forgiven)
        if state not in _QUIET and state != before:
            why = f" ({reason})" if reason else ""
            text = f"update {active.release.name}: {state}{why}"
            self._engine.notify(FleetEvent("notice", device, text=text))

    def _supersede(self, other: _Active, newer: _Active) -> None:
        """Remove the devices of the newer rollout from an older one."""
        for device in newer.tally.targets:
            target = other.tally.targets.get(device)
            if target is not None and target.state not in FINAL:
                self._set_state(other, device, SUPERSEDED, newer.release.name)
                other.tally.finish(device)
        self._advance(other)

    def _finish(self, active: _Active, state: str, reason: str, by_owner: bool = False) -> None:
        active.ended = state
        self.active.pop(active.number, None)
        for device in active.tally.running:  # devices on trial finish it
            if active.tally.targets[device].state == DOWNLOADING:
                self._abort_download(device)
                self._set_state(active, device, WAITING, "")
        self._engine.store.set_rollout(active.number, state, reason, active.forgiven)
        if not active.reading:
            active.release.close()  # else the last job that reads it closes it
        line = self._summary(active) | {"state": state, "reason": reason}
        self._notify_watchers(active.number, line, True)
        text = f"rollout {active.number} of {active.release.name} is {state}"
        name = "rollout-stopped" if state == "stopped" and not by_owner else ""
        text = f"{text}: {reason}" if reason else text
        self._engine.notify(FleetEvent("notice", name=name, text=text))

    def _abort_download(self, device: str) -> None:
        request = Request(device, "update", {"abort": True}, AUTHORITY, quiet=True)
        with contextlib.suppress(HostError):  # the device aborts by itself, a minute later
            self._engine.start(commands.job(self._engine, request), lambda _: None)

    # Watchers

    def _is_resting(self, active: _Active) -> bool:
        """Return whether only devices that are away remain."""
        return not active.tally.running and not active.tally.count_reached(active.wave, BUSY)

    def _device_line(self, active: _Active, target: Target) -> Line:
        done = (
            active.release.total if target.state == TESTING else active.done.get(target.device, 0)
        )
        return {
            "rollout": active.number,
            "device": target.device,
            "wave": target.wave,
            "state": target.state,
            "reason": target.reason,
            "done": done,
            "total": active.release.total,
        }

    def _summary(self, active: _Active) -> Line:
        return {
            "rollout": active.number,
            "release": active.release.name,
            "sequence": active.release.sequence,
            "state": "active",
            "reason": "",
            "wave": active.wave,
            "waves": active.tally.waves,
            "total": active.release.total,
            "counts": active.tally.counts(),
        }

    def _notify_watchers(self, number: int, line: Line, last: bool = False) -> None:
        watchers = self._watchers.pop(number, []) if last else self._watchers.get(number, [])
        for watcher in list(watchers):
            try:
                watcher(line, last)
            except Exception:  # noqa: BLE001  a watcher that fails must not stop the others
                watchers.remove(watcher)


def _pardoned_devices(record: Rollout) -> set[str]:
    """Return the devices that failed first, as many as the owner forgave."""
    failed = [target for target in record.targets if target.state in FAILED]
    failed.sort(key=lambda target: target.changed)
    return {target.device for target in failed[: record.forgiven]}


def count_states(targets: Iterable[Target]) -> dict[str, int]:
    """Return how many targets are in each state."""
    found: dict[str, int] = {}
    for target in targets:
        found[target.state] = found.get(target.state, 0) + 1
    return found


def summarize(record: Rollout) -> Line:
    """Return the summary of a rollout that is not active."""
    return {
        "rollout": record.id,
        "release": record.release,
        "sequence": record.sequence,
        "state": record.state,
        "reason": record.reason,
        "wave": max((target.wave for target in record.targets), default=0),
        "waves": max((target.wave for target in record.targets), default=0) + 1,
        "total": 0,
        "counts": count_states(record.targets),
    }
