"""Give one order to many devices: in waves, several at once, with a stop, and resumable.

Every command that takes many devices runs through run(). An order is an action on one device; it
runs on threads, and each thread opens its own database and its own call of `serve`.
"""

import hashlib
import json
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from warden_client import secretfile

from warden_host.cli import exit_codes, screen
from warden_host.cli.common import raising_on_sigterm
from warden_host.cli.targets import Targets
from warden_host.errors import HostError, filesystem_error, internal_error
from warden_host.fleet.fleet import Fleet
from warden_host.rollout import plan
from warden_host.store.store import Device, Store

FOLDER = "runs"
_MOST_JOURNALS = 20
_MAX_JOURNAL = 4 << 20
_SHOWN = 5  # names in one line


@dataclass(frozen=True)
class Order:
    """What is done with each device.

    words: the command and its arguments; with the same words a run is resumed.
    act: does it and returns what JSON shows of it; raises HostError. On any thread.
    fits: returns why a device is left out, "" where it is not.
    """

    words: list[Any]
    act: Callable[[str], dict[str, Any]]
    fits: Callable[[Device], str] = lambda known: "revoked" if known.ending else ""


@dataclass
class Outcome:
    """What became of the devices. failed: device → its error, in order of time.

    trouble: why the run can't be noted or shown any more.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, HostError] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    trouble: HostError | None = None


class Journal:
    """Which devices are done, in a file of the fleet: one line each, written as it happens.

    Its name is a digest of the order: what a command carries may be a secret.
    """

    def __init__(self, fleet: Fleet, words: list[Any]) -> None:
        self._folder = fleet.root / FOLDER
        digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]
        self._path = self._folder / f"{digest}.jsonl"

    def read(self) -> set[str]:
        """Return the devices that are done. Raises not-applicable where none was begun."""
        if not self._path.exists():
            raise HostError(
                "not-applicable",
                "there is no unfinished run of this command",
                "give it without --resume; its options must be those of the first time",
            )
        text = secretfile.read(self._path, _MAX_JOURNAL, "filesystem").decode(errors="replace")
        return {line.strip() for line in text.splitlines()}

    def start(self, done: set[str]) -> None:
        """Begin a run; the oldest journals of other runs go."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        secretfile.write(self._path, "".join(f"{one}\n" for one in sorted(done)).encode())
        known = sorted(self._folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
        for path in known[:-_MOST_JOURNALS]:
            path.unlink(missing_ok=True)

    def add(self, device: str) -> None:
        """Note a device that is done."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(device + "\n")

    def end(self) -> None:
        """Remove the journal of a run that is finished."""
        self._path.unlink(missing_ok=True)


def run(
    fleet: Fleet,
    targets: Targets,
    order: Order,
    as_json: bool,
    question: str = "",
    yes: bool = False,
    finish: Callable[[], None] | None = None,
) -> int:
    """Give the order to the devices that the options name; return the exit code.

    question: asked before, with {count} in it. finish: called once, when a device was done.
    """
    rules = targets.rules()
    with Store(fleet.database) as store:
        names, left_out = targets.devices(store, order.fits)
    journal = Journal(fleet, [*order.words, targets.selection()])
    done = journal.read() & set(names) if targets.resume else set()
    waiting = [name for name in names if name not in done]
    if question and waiting:
        screen.confirm(question.format(count=len(waiting)), yes, as_json)
    journal.start(done)
    made = _Run(order, journal, rules, targets.at_once, len(names), as_json, len(done))
    made.outcome.left_out = left_out
    with raising_on_sigterm():
        made.give(waiting)
    outcome = made.outcome
    if finish is not None and outcome.done:
        finish()
    if not outcome.failed and not outcome.waiting:
        journal.end()
    return _show(outcome, len(done), as_json)


class _Run:
    """One run. Its threads end when the queue of a wave is empty or a stop was called."""

    def __init__(
        self,
        order: Order,
        journal: Journal,
        rules: plan.Plan,
        at_once: int,
        count: int,
        as_json: bool,
        number: int,
    ) -> None:
        self.outcome = Outcome()
        self._order = order
        self._journal = journal
        self._rules = rules
        self._at_once = at_once
        self._count = count
        self._as_json = as_json
        self._number = number  # devices that have had their turn
        self._reached = 0  # by the end of the present wave
        self._guard = threading.Lock()
        self._stop = threading.Event()

    def give(self, devices: list[str]) -> None:
        """Give the order wave by wave, until all had it or a stop."""
        waves = plan.assign(self._rules.waves, devices)
        self.outcome.waiting = list(devices)
        for number in range(len(self._rules.waves)):
            wave = [name for name in devices if waves[name] == number]
            self._reached += len(wave)
            self._wave(wave)
            if self._stop.is_set():
                return

    def _wave(self, devices: list[str]) -> None:
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in devices:
            waiting.put(name)
        ends = [threading.Event() for _ in range(min(self._at_once, len(devices)))]
        for end in ends:
            threading.Thread(
                target=self._work, args=(waiting, end), name="warden-order", daemon=True
            ).start()
        try:
            _wait(ends)
        except KeyboardInterrupt:
            self._call_stop("interrupted")
            if not self._as_json:
                screen.note("waits for those under way; Ctrl-C again ends at once")
            try:
                _wait(ends)
            except KeyboardInterrupt:
                pass  # daemons: they end with the process

    def _work(self, waiting: "queue.SimpleQueue[str]", end: threading.Event) -> None:
        try:
            self._work_off(waiting)
        finally:
            end.set()

    def _work_off(self, waiting: "queue.SimpleQueue[str]") -> None:
        while not self._stop.is_set():
            try:
                device = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                result: dict[str, Any] | HostError = self._order.act(device)
            except HostError as error:
                result = error
            except OSError as error:
                result = filesystem_error(error)
            except Exception as error:  # noqa: BLE001  one device's bug ends no other's order
                result = internal_error(error)
            self._note(device, result)

    def _note(self, device: str, result: dict[str, Any] | HostError) -> None:
        with self._guard:
            outcome = self.outcome
            outcome.waiting.remove(device)
            self._number += 1
            if isinstance(result, HostError):
                outcome.failed[device] = result
                if len(outcome.failed) > self._rules.allowed(self._reached):
                    self._call_stop(f"{len(outcome.failed)} failed")
            else:
                outcome.done.append(device)
            try:
                if not isinstance(result, HostError):
                    self._journal.add(device)
                self._show(device, result)
            except OSError as error:  # a full disk, or the reader of the output is gone
                outcome.trouble = filesystem_error(error)
                self._call_stop(outcome.trouble.text)

    def _call_stop(self, why: str) -> None:
        if not self._stop.is_set():
            self.outcome.stopped = why
            self._stop.set()

    def _show(self, device: str, result: dict[str, Any] | HostError) -> None:
        failed = isinstance(result, HostError)
        if self._as_json:
            more = {"text": result.text} if isinstance(result, HostError) else result
            word = result.code if isinstance(result, HostError) else "ok"
            line = {"device": device, "result": word, "n": self._number, "of": self._count}
            screen.print_json(more | line)
            return
        words = f"{self._number}/{self._count} {device}"
        if failed:
            words += f"  {result}"
        screen.mark(not failed, words)


def _wait(ends: list[threading.Event]) -> None:
    """Wait for all threads. Not by join(): after a Ctrl-C it takes a thread for ended."""
    for end in ends:
        while not end.wait(0.2):  # a wait without a bound would hold a signal back
            pass


def _show(outcome: Outcome, before: int, as_json: bool) -> int:
    """Print the summary and return the exit code."""
    code = _exit_code(outcome)
    count = len(outcome.done) + len(outcome.failed) + len(outcome.waiting) + before
    text = (
        f"{len(outcome.done) + before} of {count} devices are done" if count else "nothing to do"
    )
    if outcome.stopped:
        text += f"; it stopped: {outcome.stopped}"
    hint = "the same command with --resume does the rest" if code else ""
    if as_json:
        record: dict[str, Any] = {
            "ok": code == exit_codes.DONE,
            "done": len(outcome.done) + before,
            "failed": {name: error.code for name, error in outcome.failed.items()},
            "waiting": outcome.waiting,
            "left_out": dict(outcome.left_out),
        }
        if code:
            codes = Counter(error.code for error in outcome.failed.values())
            worst = codes.most_common(1)[0][0] if codes else "interrupted"
            worst = outcome.trouble.code if outcome.trouble is not None else worst
            kind = exit_codes.KINDS[code]
            record["error"] = {"code": worst, "kind": kind, "text": text, "hint": hint}
        screen.print_json(record)
        return code
    screen.mark(code == exit_codes.DONE, text)
    for note in _notes(outcome, hint):
        screen.note(note)
    return code


def _notes(outcome: Outcome, hint: str) -> Iterator[str]:
    if outcome.left_out:
        summary = ", ".join(f"{count} {why}" for why, count in outcome.left_out.items())
        yield f"left out: {summary}"
    for word, names in (("failed", list(outcome.failed)), ("not reached", outcome.waiting)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{word}: {', '.join(names[:_SHOWN])}{more}"
    if hint:
        yield f"→ {hint}"


def _exit_code(outcome: Outcome) -> int:
    """Return the code of all failures where they are of one kind, else FAILED."""
    if outcome.stopped == "interrupted":
        return exit_codes.INTERRUPTED
    kinds = {exit_codes.of(error) for error in outcome.failed.values()}
    if not kinds:
        return exit_codes.FAILED if outcome.waiting else exit_codes.DONE
    return kinds.pop() if len(kinds) == 1 else exit_codes.FAILED
