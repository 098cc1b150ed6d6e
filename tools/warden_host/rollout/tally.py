"""How far a rollout is, counted as its devices change, and what it does next: no step of it walks over the fleet."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from warden_host.rollout.plan import ACCEPTED, BUSY, FAILED, FINAL, TESTING, WAITING, Plan
from warden_host.store.releases import Target


class Tally:
    """The devices of a rollout with their states; which of them have a job, and which wait for one, in each wave."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self.targets = {target.device: target for target in targets}
        self.waves = max((target.wave for target in self.targets.values()), default=0) + 1
        self.running: set[str] = set()
        self.downloading = 0  # of those that run: not on trial yet
        self._counts: list[Counter[str]] = [Counter() for _ in range(self.waves)]
        self._waiting: list[dict[str, None]] = [{} for _ in range(self.waves)]
        for target in self.targets.values():
            self._counts[target.wave][target.state] += 1
            if target.state == WAITING:
                self._waiting[target.wave][target.device] = None

    def change(self, device: str, state: str, reason: str, moment: float) -> Target:
        """What it is now."""
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
        """It has a job from now on."""
        target = self.targets[device]
        self._waiting[target.wave].pop(device, None)
        self.running.add(device)
        self.downloading += target.state != TESTING

    def finish(self, device: str) -> None:
        """Its job is over, or is no business of this rollout any more."""
        if device in self.running:
            self.running.remove(device)
            self.downloading -= self.targets[device].state != TESTING

    def next_device(self, wave: int) -> str | None:
        """One that waits, of a wave up to this one: the earliest wave first, and of that who has waited longest."""
        for waiting in self._waiting[: wave + 1]:
            for device in waiting:
                return device
        return None

    def count_reached(self, wave: int, states: Iterable[str]) -> int:
        """How many devices of the waves up to this one are in one of these states."""
        return sum(counts[state] for counts in self._counts[: wave + 1] for state in states)

    def size(self, wave: int) -> int:
        return sum(self._counts[wave].values())

    def count(self, wave: int, state: str) -> int:
        return self._counts[wave][state]

    def counts(self) -> dict[str, int]:
        """State → devices, of all waves."""
        return dict(sum(self._counts, Counter()))


@dataclass(frozen=True)
class Step:
    """What a rollout does next. state: active, done, stopped. wave: devices up to this one may begin."""

    state: str
    wave: int
    reason: str = ""


def next_step(plan: Plan, tally: Tally, forgiven: int) -> Step:
    """From the devices' states alone, so a restart of the service changes nothing."""
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
    """Devices that are away hold nobody up, where others have shown that the release works."""
    if any(tally.count(wave, state) for state in BUSY):
        return False
    over = sum(tally.count(wave, state) for state in FINAL)
    return over == tally.size(wave) or tally.count(wave, ACCEPTED) > 0
