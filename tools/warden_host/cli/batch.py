"""`warden provision --batch`: the boards of a list, as they are plugged in.

The runner of cli/many.py gives the order: waves, a stop, several at once, the journal. A board on
a port is the place at which one device of the list is made.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from warden_client import secretfile

from warden_host.boards import batch, checks, labels
from warden_host.boards.connection import Board
from warden_host.cli import board as on_board
from warden_host.cli import many, runner, screen
from warden_host.cli.targets import Rules
from warden_host.devices.provision import Order
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

_WAIT_S = 3600.0  # for the next board, at a terminal
_NO_STOP = "999999"  # a board that fails is looked at, and another one plugged in
_REST = "the same command goes on from here; with --again, add --resume"


class Batch:
    """The boards of a list.

    wait_s: seconds to wait for the next board. live: the devices that are done.
    """

    def __init__(
        self,
        fleet: Fleet,
        entries: list[batch.Entry],
        settings: on_board.Settings,
        port: str,
        wait_s: float,
    ) -> None:
        self.fleet = fleet
        self.settings = settings
        self.entries = {entry.order.device: entry for entry in entries}
        self.finder = batch.Finder(port, wait_s, self._ask_for_next)
        self.log = batch.Log(fleet.root / "boards" / "log.jsonl")
        self.live = {entry.order.device for entry in entries if entry.done}
        self._before: set[str] = set()
        self._made = runner.Outcome()

    def run(self, journal: many.Journal, rules: Rules) -> None:
        """Provision boards until the list or the boards end."""
        (self.fleet.root / "boards").mkdir(mode=0o700, exist_ok=True)
        self._before = self.live | (journal.read() & set(self.entries) if rules.resume else set())
        self.live |= self._before
        if self._before:
            self.say(f"{len(self._before)} of {len(self.entries)} are done already")
        order = runner.Order([], None, places=self._place, rest=_REST)
        plan = rules.plan(_NO_STOP)
        devices, at_once = list(self.entries), rules.at_once
        as_json = self.settings.as_json
        self._made = many.give(order, devices, self._before, journal, plan, at_once, as_json)

    def _place(self, enough: Callable[[], bool]) -> "_Place | None":
        port = self.finder.next(enough)
        return None if port is None else _Place(self, port)

    def _ask_for_next(self) -> None:
        waiting = [name for name in self.entries if name not in self.live]
        whose = f", for {waiting[0]}" if waiting and self.settings.at_once == 1 else ""
        self.say(f"plug in the next board{whose}")

    def say(self, text: str) -> None:
        """Print a line for people."""
        if not self.settings.as_json:
            screen.show(text)

    def write_labels(self, path: Path) -> None:
        """Write a label for each device of the list that is live."""
        live = [entry.order for name, entry in self.entries.items() if name in self.live]
        if live:
            found = [labels.Label(order.type, order.device, order.board) for order in live]
            secretfile.write(path, labels.sheet(found, path.suffix))

    def show(self) -> int:
        """Show the summary; return the exit code."""
        more = {"made": self._made.done, "log": str(self.log.path)}
        return many.show(
            self._made,
            len(self._before),
            _REST,
            self.settings.as_json,
            more,
            f"the log is {self.log.path}",
        )


class _Place:
    """A board on a port, open while its device is made. What became of it goes to the log."""

    def __init__(self, made: Batch, port: str) -> None:
        self.name = port
        self._batch = made
        self._device = self._chip = ""
        self._began = time.monotonic()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "_Place":
        with contextlib.ExitStack() as opened:
            opened.callback(self._batch.finder.done, self.name)
            opened.push(self._log)
            self._board = opened.enter_context(Board(self.name, self._batch.settings.patience))
            self._chip = checks.ask(self._board).unique_id
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def choose(self, wave: list[str], later: list[str]) -> str:
        """See runner.Place."""
        waiting, others = (
            [self._batch.entries[name] for name in names] for names in (wave, later)
        )
        entry = batch.choose(waiting, others, self._chip, self._batch.fleet)
        if entry is None:
            self._batch.say(f"{self.name}: this board is none of those that are left")
            return ""
        self._device = entry.order.device
        return self._device

    def act(self, device: str) -> dict[str, Any]:
        """See runner.Place."""
        made = self._batch
        made.say(f"{device} on {self.name}")
        order = made.entries[device].order
        with Store(made.fleet.database) as store:
            on_board.take_steps(made.fleet, store, self._board, order, made.settings)
        made.live.add(device)
        return {"port": self.name, "chip": self._chip}

    def _log(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None and not self._device:
            return  # none of those that are left
        if error is not None and not isinstance(error, Exception):
            return  # Ctrl-C
        result = "ok" if error is None else getattr(error, "code", "internal-error")
        self._batch.log.add(
            device=self._device,
            port=self.name,
            chip=self._chip,
            result=result,
            seconds=round(time.monotonic() - self._began, 1),
        )


def _check_labels(path: Path, count: int) -> None:
    """Raise bad-argument where so many labels can't be written when the boards are done."""
    labels.check_kind(path.suffix, count)
    if path.is_dir() or not path.parent.is_dir():
        raise HostError("bad-argument", f"no file can be written at {path}")


def run(
    fleet: Fleet,
    template: Order,
    gate: batch.Gate,
    listed: Path,
    port: str,
    settings: on_board.Settings,
    rules: Rules,
    label_file: Path | None,
    wait_s: float | None,
    check: Callable[[], None],
    complete: on_board.Complete,
) -> int:
    """Provision the boards of a list; return the exit code. Raises bad-list before any board.

    wait_s: seconds to wait for another board. None: an hour at a terminal, else not at all
    check(): raises what keeps a board from connecting. complete: as on_board.take_steps() has it
    """
    rules.plan()  # raises bad-argument
    with Store(fleet.database) as store:
        entries = batch.read(listed, template, gate, fleet, store)
    if label_file is not None:
        _check_labels(label_file, len(entries))
    check()
    if not all(entry.done for entry in entries):
        networks = complete(replace(template, board="")).networks  # pins are read already
        entries = [entry.given(networks) for entry in entries]
    if wait_s is None:
        wait_s = _WAIT_S if sys.stdin.isatty() and not settings.as_json else 0.0
    journal = many.Journal(fleet, ["provision", str(listed.absolute()), template.again])
    made = Batch(fleet, entries, settings, port, wait_s)
    made.run(journal, rules)
    if label_file is not None:
        made.write_labels(label_file)
    return made.show()
