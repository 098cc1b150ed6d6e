"""Run jobs: work of several steps, as generators that yield what they wait for."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError, internal_error


class Wait(NamedTuple):
    """What a job yields: resume it with an event that matches, or with None at the deadline.

    matches: None if it waits for its deadline alone.
    device: if set, only events of this device are offered.
    """

    matches: Callable[[FleetEvent], bool] | None
    deadline: float  # steady seconds
    device: str = ""

    def accepts(self, fleet_event: FleetEvent) -> bool:
        """Return whether the event resumes the job."""
        return self.matches is not None and self.matches(fleet_event)

    @property
    def source(self) -> str | None:
        """Return the device whose events are awaited, "" for any, None where none is."""
        return None if self.matches is None else self.device


Job = Generator[Wait, FleetEvent | None, dict[str, Any]]
Done = Callable[[dict[str, Any] | HostError], None]


_STARTING = Wait(None, 0.0)


@dataclass(eq=False)
class _Running:
    job: Job
    wait: Wait
    done: Done


class Jobs:
    """All jobs that wait."""

    def __init__(self) -> None:
        # By their wait's source: an event must not cost a look at every job of a fleet.
        self._running: dict[str | None, dict[_Running, None]] = {}

    def start(self, job: Job, done: Done) -> None:
        """Start a job; done gets its result, or the error that it raised."""
        self._continue(_Running(job, _STARTING, done), None)

    def dispatch(self, fleet_event: FleetEvent) -> None:
        """Resume the jobs that wait for this event."""
        candidates = list(self._running.get("", ()))
        if fleet_event.device:
            candidates += self._running.get(fleet_event.device, ())
        for running in [run for run in candidates if run.wait.accepts(fleet_event)]:
            self._resume(running, fleet_event)

    def tick(self, steady: float) -> None:
        """Resume the jobs whose deadline is over."""
        for running in [run for run in self._all() if steady >= run.wait.deadline]:
            self._resume(running, None)

    def abandon(self) -> None:
        """End every job with not-serving: the authority stops."""
        for running in self._all():
            running.job.close()
            running.done(HostError("not-serving", "`warden serve` stopped in the meantime"))
        self._running.clear()

    def _all(self) -> list[_Running]:
        return [running for kept in self._running.values() for running in kept]

    def _add(self, running: _Running) -> None:
        self._running.setdefault(running.wait.source, {})[running] = None

    def _remove(self, running: _Running) -> bool:
        """Remove a job; return whether it was there."""
        source = running.wait.source
        kept = self._running.get(source, {})
        if running not in kept:
            return False
        del kept[running]
        if not kept:
            del self._running[source]
        return True

    def _resume(self, running: _Running, fleet_event: FleetEvent | None) -> None:
        if self._remove(running):
            self._continue(running, fleet_event)

    def _continue(self, running: _Running, fleet_event: FleetEvent | None) -> None:
        """Run a job that is not among the waiting ones, until it waits or ends."""
        try:
            running.wait = running.job.send(fleet_event)
        except StopIteration as end:
            running.done(end.value)
        except HostError as error:
            running.done(error)
        except Exception as error:  # noqa: BLE001  the caller of the job needs an answer
            running.done(internal_error(error))
        else:
            self._add(running)
