"""Count the devices of a rollout by state, and decide its next step.

Counts follow each change of a device: no step of a rollout iterates over the fleet.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from warden_host.rollout.plan import ACCEPTED, BUSY, FAILED, FINAL, TESTING, WAITING, Plan
from warden_host.store.releases import Target


class Tally:
    """The devices of a rollout: their states, which have a job, and which wait for one."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self.targets = {target.device: target for target in targets}
        self.waves = max((target.wave for target in self.targets.values()), default=0) + 1
        self.running: set[str] = set()
        self.downloading = 0  # devices that have a job and are not on trial yet
        self._counts: list[Counter[str]] = [Counter() for _ in range(self.waves)]
        self._waiting: list[dict[str, None]] = [{} for _ in range(self.waves)]
        for target in self.targets.values():
            self._counts[target.wave][target.state] += 1
            if target.state == WAITING:
                self._waiting[target.wave][target.device] = None

    def change(self, device: str, state: str, reason: str, moment: float) -> Target:
        """Set a device's state. moment: unix seconds. Returns the changed target."""
        old = self.targets[device]
        new = self.targets[device] = old._replace(state=state, reason=reason, changed=moment)
        counts, waiting = self._counts[old.wave], self._waiting[old.wave]
        counts[old.state] -= 1
        counts[state] += 1
        if device in self.running:
            self.downloading += (state != TESTING) - (old.state != TESTING)
        elif state == WAITING:
            waiting[device] = None
        else:
            waiting.pop(device, None)
        return new

    def start(self, device: str) -> None:
        """Note that a device has a job from now on."""
        target = self.targets[device]
        self._waiting[target.wave].pop(device, None)
        self.running.add(device)
        self.downloading += target.state != TESTING

    def finish(self, device: str) -> None:
        """Note that a device's job ended, or that another rollout took the device over."""
        if device in self.running:
            self.running.remove(device)
            self.downloading -= self.targets[device].state != TESTING

    def next_device(self, wave: int) -> str | None:
        """Return a waiting device of a wave up to `wave`: earliest wave and longest wait first."""
        for waiting in self._waiting[: wave + 1]:
            for device in waiting:
                return device
        return None

    def count_reached(self, wave: int, states: Iterable[str]) -> int:
        """Count the devices of the waves up to `wave` that are in one of the states."""
        return sum(counts[state] for counts in self._counts[: wave + 1] for state in states)

    def size(self, wave: int) -> int:
        """Count the devices of one wave."""
        return sum(self._counts[wave].values())

    def count(self, wave: int, state: str) -> int:
        """Count the devices of one wave that are in this state."""
        return self._counts[wave][state]

    def counts(self) -> dict[str, int]:
        """Return how many devices of all waves are in each state."""
        return dict(sum(self._counts, Counter()))


@dataclass(frozen=True)
class Step:
    """The next step of a rollout.

    state: active, done or stopped. wave: the last wave whose devices may start.
    """

    state: str
    wave: int
    reason: str = ""


def next_step(plan: Plan, tally: Tally, forgiven: int) -> Step:
    """Decide the next step from the devices' states alone: a restart changes nothing.

    forgiven: how many failures the owner accepted.
    """
    last, reached = tally.waves - 1, 0
    for wave in range(tally.waves):
        reached += tally.size(wave)
        failed = tally.count_reached(wave, FAILED) - forgiven
        if failed > plan.allowed(reached):
            why = f"{failed} of {reached} failed, the last with {_last_failure(tally, wave)}"
            return Step("stopped", wave, why)
        if not _passed(tally, wave):
            return Step("active", wave)
    over = tally.count_reached(last, FINAL)
    return Step("done" if over == reached else "active", last)


def _last_failure(tally: Tally, wave: int) -> str:
    failed = [
        target
        for target in tally.targets.values()
        if target.wave <= wave and target.state in FAILED
    ]
    last = max(failed, key=lambda target: target.changed)
    return last.reason or last.state


def _passed(tally: Tally, wave: int) -> bool:
    """Return whether the next wave may start.

    Devices that are away don't delay it once another has accepted the release.
    """
    if any(tally.count(wave, state) for state in BUSY):
        return False
    over = sum(tally.count(wave, state) for state in FINAL)
    return over == tally.size(wave) or tally.count(wave, ACCEPTED) > 0
