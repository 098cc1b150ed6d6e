"""Work of several steps for the engine: a job is a generator that yields what it waits for, and is resumed with it."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from warden_host.errors import HostError, unexpected
from warden_host.happening import Happening


@dataclass(frozen=True)
class Wait:
    """What a job yields: resume me with a happening that matches, or with None at the deadline."""

    matches: Callable[[Happening], bool]
    deadline: float  # steady seconds


Job = Generator[Wait, Happening | None, dict[str, Any]]
Done = Callable[[dict[str, Any] | HostError], None]


@dataclass
class _Running:
    job: Job
    wait: Wait
    done: Done


class Jobs:
    def __init__(self) -> None:
        self._running: list[_Running] = []

    def start(self, job: Job, done: Done) -> None:
        """Runs the job up to its end; done gets its result, or what it raised."""
        running = _Running(job, Wait(lambda _: False, 0.0), done)
        self._running.append(running)
        self._resume(running, None)

    def hear(self, happening: Happening) -> None:
        for running in [run for run in self._running if run.wait.matches(happening)]:
            self._resume(running, happening)

    def tick(self, steady: float) -> None:
        for running in [run for run in self._running if steady >= run.wait.deadline]:
            self._resume(running, None)

    def abandon(self) -> None:
        """We stop serving: nobody waits for ever."""
        for running in list(self._running):
            running.job.close()
            running.done(HostError("not-serving", "`warden serve` stopped in the meantime"))
        self._running.clear()

    def _resume(self, running: _Running, happening: Happening | None) -> None:
        if running not in self._running:
            return
        self._running.remove(running)
        try:
            running.wait = running.job.send(happening)
        except StopIteration as end:
            running.done(end.value)
        except HostError as error:
            running.done(error)
        except Exception as error:  # noqa: BLE001  whoever waits for it must not wait for ever
            running.done(unexpected(error))
        else:
            self._running.append(running)
