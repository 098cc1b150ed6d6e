"""Call those who watch for events, each for its kinds alone."""

from collections.abc import Callable, Sequence

from warden_host.engine.events import KINDS, FleetEvent

Watcher = Callable[[FleetEvent], None]


class Watchers:
    """The watchers of each kind, in the order in which they were added."""

    def __init__(self) -> None:
        self._of: dict[str, list[Watcher]] = {kind: [] for kind in KINDS}

    def add(self, watcher: Watcher, *kinds: str) -> None:
        """Call a watcher with each event of these kinds, or of all if none is given."""
        for kind in kinds or KINDS:
            self._of[kind].append(watcher)

    def of(self, kind: str) -> Sequence[Watcher]:
        """Return the watchers of a kind."""
        return self._of[kind]

    def clear(self) -> None:
        """Remove all watchers."""
        for watchers in self._of.values():
            watchers.clear()
