"""Build an authority without a thread or a broker, for tests of its callers."""

from release_kit import TYPE
from rollout_model import World
from warden_host.service.control import Caller


class Authority:
    """Call the world's engine, as the real authority does on its own thread."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self, question, _timeout=10.0):
        return question(self._world.engine)


def asked(handler, op="rollout", **line) -> Caller:
    """Return the caller of one request about rollouts; its lines hold the answers."""
    caller = Caller()
    handler.operations[op]({"release": "relay-1.0", "type": TYPE} | line, caller)
    return caller


def lines_of(caller: Caller) -> list[dict]:
    """Return every line that waits for the caller."""
    found = []
    while caller._lines.qsize():
        line = caller.next_line(0)
        if line is not None:
            found.append(line)
    return found
