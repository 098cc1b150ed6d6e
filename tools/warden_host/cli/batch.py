"""`warden provision --batch`: one board after the other, from a list."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from warden_client import secretfile

from warden_host.boards import batch, checks, labels
from warden_host.boards.connection import Board
from warden_host.boards.steps import Outcome
from warden_host.cli import board as on_board
from warden_host.cli import screen
from warden_host.devices.provision import Order
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store


class Batch:
    """The boards of a list."""

    def __init__(
        self, fleet: Fleet, entries: list[batch.Entry], settings: on_board.Settings
    ) -> None:
        self._fleet = fleet
        self._entries = entries
        self._settings = settings
        self._waiting = [entry for entry in entries if not entry.done]
        self._made: list[Outcome] = []
        self._failed: dict[str, HostError] = {}
        self._log = batch.Log(fleet.root / "boards" / "log.jsonl")

    def run(self, port: str, wait_s: float, store: Store) -> bool:
        """Provision boards until the list or the boards end; return whether the list is done."""
        (self._fleet.root / "boards").mkdir(mode=0o700, exist_ok=True)
        done = len(self._entries) - len(self._waiting)
        if done:
            self._say(f"{done} of {len(self._entries)} are done already")
        if not self._waiting:
            return True
        try:
            for found in batch.boards(port, wait_s, self._ask_for_next):
                self._board(found, store)
                if not self._waiting:
                    break
        except KeyboardInterrupt:  # the summary follows; the list goes on from here next time
            pass
        return not self._waiting

    def _board(self, port: str, store: Store) -> None:
        began = time.monotonic()
        device = ""
        try:
            with Board(port, self._settings.patience) as board:
                chip = checks.ask(board).unique_id
                entry = batch.choose(self._waiting, chip, self._fleet)
                if entry is None:
                    self._say(f"{port}: this board is none of those that are left")
                    return
                device = entry.order.device
                self._say(f"{device} on {port}")
                outcome = on_board.take_steps(
                    self._fleet, store, board, entry.order, self._settings
                )
        except HostError as error:
            self._failed[device or port] = error
            screen.fail(error, self._settings.as_json)
            self._add(device, port, began, error.code)
            return
        self._failed.pop(device, None)
        self._waiting.remove(entry)
        self._made.append(outcome)
        self._add(device, port, began, "ok", outcome.facts.unique_id)
        self._say(f"{device} is live: {len(self._waiting)} to go")

    def _add(self, device: str, port: str, began: float, result: str, chip: str = "") -> None:
        seconds = round(time.monotonic() - began, 1)
        self._log.add(device=device, port=port, chip=chip, result=result, seconds=seconds)

    def _ask_for_next(self) -> None:
        self._say(f"plug in the next board, for {self._waiting[0].order.device}")

    def _say(self, text: str) -> None:
        if not self._settings.as_json:
            screen.show(text)

    def write_labels(self, path: Path) -> None:
        """Write a label for each device of the list that is live."""
        waiting = {entry.order.device for entry in self._waiting}
        live = [entry.order for entry in self._entries if entry.order.device not in waiting]
        if live:
            found = [labels.Label(order.type, order.device, order.board) for order in live]
            secretfile.write(path, labels.sheet(found, path.suffix))

    def show(self) -> None:
        """Show the summary."""
        waiting = [entry.order.device for entry in self._waiting]
        made = [outcome.device.device for outcome in self._made]
        if self._settings.as_json:
            failed = {name: error.code for name, error in self._failed.items()}
            record = {"ok": not waiting, "made": made, "failed": failed, "waiting": waiting}
            screen.print_json(record | {"log": str(self._log.path)})
            return
        notes = [f"{name}: {error}" for name, error in self._failed.items()]
        if waiting:
            notes.append(f"still to do: {', '.join(waiting)}; the same command goes on from here")
        notes.append(f"the log is {self._log.path}")
        screen.good(f"{len(made)} boards provisioned, {len(waiting)} to do", *notes)


def run(
    fleet: Fleet,
    template: Order,
    gate: batch.Gate,
    listed: Path,
    port: str,
    settings: on_board.Settings,
    label_file: Path | None,
    wait_s: float | None,
    check: Callable[[], None],
    complete: on_board.Complete,
) -> int:
    """Provision the boards of a list; return the exit code. Raises bad-list before any board.

    wait_s: seconds to wait for another board. None: an hour at a terminal, else not at all
    check(): raises what keeps a board from connecting. complete: as on_board.take_steps() has it
    """
    if label_file is not None:
        labels.check_kind(label_file.suffix)
    with Store(fleet.database) as store:
        entries = batch.read(listed, template, gate, fleet, store)
        check()
        if not all(entry.done for entry in entries):
            networks = complete(replace(template, board="")).networks  # pins are read already
            entries = [entry.given(networks) for entry in entries]
        made = Batch(fleet, entries, settings)
        if wait_s is None:
            wait_s = 3600.0 if sys.stdin.isatty() and not settings.as_json else 0.0
        done = made.run(port, wait_s, store)
    if label_file is not None:
        made.write_labels(label_file)
    made.show()
    return 0 if done else 1
