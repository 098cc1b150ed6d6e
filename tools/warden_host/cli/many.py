"""Give one order to many devices: in waves, several at once, with a stop, and resumable.

Every command that takes many devices runs through give(): orders over the link by run(), and
boards by cli/batch.py. An order is an action on one device; it runs on threads, and each thread
opens its own database and its own call of `serve`.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from warden_client import secretfile

from warden_host.cli import exit_codes, screen
from warden_host.cli.common import on_signals, raising_on_sigterm
from warden_host.cli.runner import Order, Outcome, Runner
from warden_host.cli.targets import Targets
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.rollout import plan
from warden_host.stopping import Stop
from warden_host.store.store import Store

FOLDER = "runs"
_MOST_JOURNALS = 20
_MAX_JOURNAL = 4 << 20
_SHOWN = 5  # names in one line
# Devices are left when no board is plugged in any more.
_NO_PLACE = HostError("port-unknown", "no other board was plugged in")


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
        known = sorted(self._folder.glob("*.jsonl"), key=_modified)
        for path in known[:-_MOST_JOURNALS]:
            path.unlink(missing_ok=True)

    def add(self, device: str) -> None:
        """Note a device that is done."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(device + "\n")

    def end(self) -> None:
        """Remove the journal of a run that is finished."""
        self._path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    """Return when a journal was written last; 0 where another run's end removed it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


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
    rules = targets.rules.plan()
    with Store(fleet.database) as store:
        names, left_out = targets.devices(store, order.fits)
    journal = Journal(fleet, [*order.words, targets.selection()])
    done = journal.read() & set(names) if targets.rules.resume else set()
    if question and len(names) > len(done):
        screen.confirm(question.format(count=len(names) - len(done)), yes, as_json)
    outcome = give(order, names, done, journal, rules, targets.rules.at_once, as_json)
    outcome.left_out = left_out
    if finish is not None and outcome.done:
        finish()
    return show(outcome, len(done), order.rest, as_json)


def give(
    order: Order,
    devices: list[str],
    done: set[str],
    journal: Journal,
    rules: plan.Plan,
    at_once: int,
    as_json: bool,
) -> Outcome:
    """Give the order to the devices but those that are done, and keep the journal."""

    def show_turn(name: str, result: dict[str, Any] | HostError, number: int) -> None:
        _show_turn(name, result, number, len(devices), as_json)

    def interrupted() -> None:
        if not as_json:
            screen.note("waits for those under way; Ctrl-C again ends at once")

    journal.start(done)
    runner = Runner(order, rules, at_once, len(done), journal.add, show_turn, interrupted)
    with _signals(order, at_once) as stop:
        runner.give([name for name in devices if name not in done], stop)
    outcome = runner.outcome
    if not outcome.waiting and not set(outcome.failed) & set(devices):
        outcome.failed.clear()  # places at which no device was chosen
        journal.end()
    return outcome


def _signals(order: Order, at_once: int) -> contextlib.AbstractContextManager[Stop | None]:
    """Return what tells the run of Ctrl-C and SIGTERM; None: they raise KeyboardInterrupt.

    At places a person may be asked, so one at a time is done on the thread of Ctrl-C.
    """
    if order.places is not None and at_once == 1:
        return raising_on_sigterm()
    return on_signals(hard_at=3)  # the second one stops waiting for those under way


def _show_turn(
    name: str, result: dict[str, Any] | HostError, number: int, count: int, as_json: bool
) -> None:
    failed = isinstance(result, HostError)
    if as_json:
        more = {"text": result.text} if isinstance(result, HostError) else result
        word = result.code if isinstance(result, HostError) else "ok"
        screen.print_json(more | {"device": name, "result": word, "n": number, "of": count})
        return
    words = f"{number}/{count} {name}"
    if failed:
        words += f"  {result}"
    screen.mark(not failed, words)


def show(
    outcome: Outcome,
    before: int,
    rest: str,
    as_json: bool,
    more: dict[str, Any] | None = None,
    *notes: str,
) -> int:
    """Print the summary and return the exit code.

    before: devices that an earlier run did. rest: how to do what is left. more: of the order's
    own, for JSON. notes: for people.
    """
    code = _exit_code(outcome)
    count = len(outcome.done) + len(outcome.failed) + len(outcome.waiting) + before
    text = (
        f"{len(outcome.done) + before} of {count} devices are done" if count else "nothing to do"
    )
    if outcome.stopped:
        text += f"; it stopped: {outcome.stopped}"
    hint = rest if code else ""
    if as_json:
        record: dict[str, Any] = {
            "ok": code == exit_codes.DONE,
            "done": len(outcome.done) + before,
            "failed": {name: error.code for name, error in outcome.failed.items()},
            "waiting": outcome.waiting,
            "left_out": dict(outcome.left_out),
        }
        if code:
            worst = _worst(outcome)
            kind = exit_codes.KINDS[code]
            record["error"] = {"code": worst, "kind": kind, "text": text, "hint": hint}
        screen.print_json(record | (more or {}))
        return code
    screen.mark(code == exit_codes.DONE, text)
    for note in (*_notes(outcome, hint), *notes):
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
    errors = [*outcome.failed.values()]
    if outcome.trouble is not None:
        errors.append(outcome.trouble)
    elif outcome.waiting and not errors:
        errors.append(_NO_PLACE)
    kinds = {exit_codes.of(error) for error in errors}
    if not kinds:
        return exit_codes.DONE
    return kinds.pop() if len(kinds) == 1 else exit_codes.FAILED


def _worst(outcome: Outcome) -> str:
    """Return the code that stands for all failures."""
    if outcome.trouble is not None:
        return outcome.trouble.code
    codes = Counter(error.code for error in outcome.failed.values())
    if codes:
        return codes.most_common(1)[0][0]
    return "interrupted" if outcome.stopped else _NO_PLACE.code
