"""A fleet, a bare board on a serial port, and its provisioning as the command line does it."""

from dataclasses import dataclass, field
from typing import Any

from fleet_kit import DEVICE, TYPE, World
from warden_host.boards.connection import Board
from warden_host.boards.steps import Outcome, Plan, Provisioning
from warden_host.devices import provision
from warden_host.store.store import Store

# On all time-outs: of a board that is emulated, on a machine that does other things as well.
PATIENCE = 5.0
STEPS = ("check", "install", "clock", "self-test", "secrets", "connect", "live", "session")


class Cut(Exception):
    """The test ends the program here."""


@dataclass
class Seen:
    """The progress of one call. cut: (step, "begin" or "end") where it is ended."""

    cut: tuple[str, str] = ("", "")
    steps: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def begin(self, step: str, text: str) -> None:
        self.steps.append(step)
        self._cut("begin")

    def at(self, done: int, total: int) -> None:
        assert 0 <= done <= total
        self._cut("middle")

    def end(self, text: str) -> None:
        self.texts[self.steps[-1]] = text
        self._cut("end")

    def _cut(self, where: str) -> None:
        if self.cut == (self.steps[-1], where):
            raise Cut


def provision_board(
    world: World,
    port: str,
    seen: Seen | None = None,
    device: str = DEVICE,
    answer: bool = False,
    erase: bool = False,
    offline: bool = False,
    patience: float = PATIENCE,
    connect_s: int = 60,
    asked: list[str] | None = None,
    **settings: Any,
) -> Outcome:
    """Provision the board on a port. answer: to the question whether to destroy.

    asked: gets each such question.
    """

    def announce(name: str) -> None:
        assert world.authority is not None
        world.authority.ask(lambda engine: engine.unload(name))
        world.authority.reload()

    def allow(question: str) -> bool:
        if asked is not None:
            asked.append(question)
        return answer

    order = provision.Order(device, TYPE, **({"board": "UNIX"} | settings))
    with Store(world.fleet.database) as store, Board(port, patience) as board:
        return Provisioning(
            world.fleet,
            store,
            board,
            Plan(order, erase, offline),
            seen or Seen(),
            announce if world.authority is not None else lambda _: None,
            allow,
            patience=patience,
            connect_s=connect_s,
        ).run()
