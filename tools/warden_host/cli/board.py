"""Provision a device on a board, with each step on the screen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from warden_host import control_client, jsontext
from warden_host.boards import ports, records, steps
from warden_host.boards.connection import Board
from warden_host.cli import otp_options, screen
from warden_host.cli.common import notify_serve
from warden_host.devices import log_in, provision
from warden_host.devices.provision import Order
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

# Return the order with the secrets that a person is asked for.
Complete = Callable[[Order], Order]


class Shown(steps.Progress, Protocol):
    """A progress that leaves the screen for a question, and comes back."""

    def open(self) -> None:
        """Come back to the screen."""

    def close(self) -> None:
        """Leave the screen."""


class Lines:
    """The progress as one JSON object a line."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._step = ""

    def begin(self, step: str, text: str) -> None:
        self._step = step
        self._print("begun", text)

    def at(self, done: int, total: int) -> None:
        """A line a step is enough."""

    def end(self, text: str) -> None:
        self._print("done", text)

    def _print(self, state: str, text: str) -> None:
        record = {"device": self._device, "step": self._step, "state": state, "text": text}
        screen.print_json(record)

    def open(self) -> None:
        """Nothing has to be opened."""

    def close(self) -> None:
        """Nothing is left open."""


class Screen:
    """The progress for people: a bar while a step lasts, a line when it is done."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("  {task.description}"), BarColumn(24), console=screen.out, transient=True
        )
        self._task: TaskID | None = None
        self._step = ""
        self.open()

    def open(self) -> None:
        self._bar.start()

    def begin(self, step: str, text: str) -> None:
        self._step = step
        self._task = self._bar.add_task(f"{step:<10} {text}", total=None)

    def at(self, done: int, total: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    def end(self, text: str) -> None:
        self._remove()
        line = Text.assemble(("✓ ", "bold green"), f"{self._step:<10} ", jsontext.printable(text))
        screen.show(line)

    def close(self) -> None:
        self._remove()
        self._bar.stop()

    def _remove(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None


class Side:
    """The progress of one of several boards at a time: a line when a step is done, no bar."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._step = ""

    def begin(self, step: str, text: str) -> None:
        self._step = step

    def at(self, done: int, total: int) -> None:
        """A line a step is enough."""

    def end(self, text: str) -> None:
        screen.mark(True, f"{self._device:<12} {self._step:<10} {text}")

    def open(self) -> None:
        """Nothing has to be opened."""

    def close(self) -> None:
        """Nothing is left open."""


@dataclass(frozen=True)
class Settings:
    """How boards are provisioned. erase, offline: as steps.Plan has them.

    at_once: boards at a time. Of several, none asks a question.
    """

    erase: bool = False
    offline: bool = False
    as_json: bool = False
    patience: float = 1.0
    at_once: int = 1


def take_steps(
    fleet: Fleet,
    store: Store,
    board: Board,
    order: Order,
    settings: Settings,
    complete: Complete = lambda order: order,
) -> steps.Outcome:
    """Provision the board with its steps on the screen. Raises HostError.

    complete(order): returns the order with the secrets that a person is asked for.
    """
    progress: Shown = Lines(order.device) if settings.as_json else Screen()
    alone = settings.at_once == 1 and not settings.as_json
    if settings.at_once > 1 and not settings.as_json:
        progress = Side(order.device)
    try:
        return steps.Provisioning(
            fleet,
            store,
            board,
            steps.Plan(order, settings.erase, settings.offline),
            progress,
            lambda device: _announce(fleet, device),
            lambda question: alone and _ask(question, progress),
            lambda order: _complete(order, complete, progress),
            settings.patience,
        ).run()
    finally:
        progress.close()


def run(fleet: Fleet, order: Order, port: str, settings: Settings, complete: Complete) -> None:
    """Provision the board on a port, and print what became of it. Raises HostError.

    complete: as take_steps() has it.
    """
    if not records.replaces_package(records.BoardRecord.load(fleet, order.device), order):
        with Store(fleet.database) as store:
            provision.check_order(fleet, store, order, is_new=False)
    if not settings.offline:
        check_serving(fleet)
    found = ports.choose(port)
    with Store(fleet.database) as store, Board(found, settings.patience) as board:
        outcome = take_steps(fleet, store, board, order, settings, complete)
    made = outcome.device
    known = [pair.appid for pair in made.pairs]
    if settings.as_json:
        record = {"ok": True, "device": made.device, "type": made.type, "mode": made.mode}
        record |= {"apps": known, "port": found, "chip": outcome.facts.unique_id}
        record |= {"connected": outcome.connected, "session": outcome.session}
        screen.print_json(record)
        return
    notes = [f"type {made.type}, board {order.board}, mode {made.mode}; obeys {', '.join(known)}"]
    if not outcome.kept:
        notes.append("its secrets are in its vault alone; the fleet has its sealing keys")
    notes += otp_options.notes(made.device, order.otp)
    with Store(fleet.database) as store:
        notes += log_in.unmatched_terms(fleet, store)
    if not outcome.connected:
        notes.append("it did not connect here: `warden devices` shows when it comes")
    screen.good(f"device {made.device} is live on {found}", *notes)


def check_serving(fleet: Fleet) -> None:
    """Raise not-serving before the board is touched."""
    try:
        control_client.call(fleet.control, {"op": "online"})
    except HostError as error:
        if error.code != "not-serving":
            raise
        raise HostError(
            "not-serving",
            "no `warden serve` runs for this fleet, so the board could not connect",
            "start `warden serve` in another window, or provision the board with --offline",
        ) from None


def _announce(fleet: Fleet, device: str) -> None:
    """Tell a running authority of the new secrets: it would refuse them as wrong-application."""
    notify_serve(fleet, device)


def _complete(order: Order, complete: Complete, progress: Shown) -> Order:
    progress.close()  # a question shall stand alone on the screen
    try:
        return complete(order)
    finally:
        progress.open()


def _ask(question: str, progress: Shown) -> bool:
    if not screen.out.is_terminal:
        return False
    progress.close()
    try:
        return click.confirm(question, default=False)
    finally:
        progress.open()
