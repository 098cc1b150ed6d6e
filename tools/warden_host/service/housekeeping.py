"""Keep the fleet's folder within its bounds while it is served: once at the start, then hourly."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError, filesystem_error
from warden_host.fleet.fleet import Fleet
from warden_host.round_guard import RoundGuard
from warden_host.service.background import background, round_guard
from warden_host.store import audit_export
from warden_host.store.store import Store

_INTERVAL_S = 3600.0


def keep_house(
    fleet: Fleet,
    announce: Callable[[FleetEvent], None],
    now: float,
    rounds: RoundGuard | None = None,
) -> None:
    """Remove what is past its bound, and move the audit log's older half into a file.

    now: unix seconds. rounds: of who calls it again and again.

    Each part that fails is announced, and tried again at the next call.
    """
    rounds = rounds or round_guard("the fleet's folder was not looked at", announce)

    def attempt(part: Callable[[Store], object], what: str) -> None:
        try:
            with Store(fleet.database) as store:
                part(store)
        except HostError as error:
            announce(FleetEvent("notice", code=error.code, text=f"{what}: {error.text}"))
        except OSError as error:
            text = filesystem_error(error).text
            announce(FleetEvent("notice", code="filesystem", text=f"{what}: {text}"))

    rounds.attempt(attempt, lambda store: store.remove_past(now), "old rows were not removed")

    def rotate(store: Store) -> None:
        path = audit_export.rotate(store, fleet.root)
        if path is not None:
            place = f"{audit_export.FOLDER}/{path.name}"
            announce(
                FleetEvent("notice", text=f"the audit log's older half is in {place}: keep it")
            )

    rounds.attempt(attempt, rotate, "the audit log was not rotated")


@contextmanager
def housekeeping(fleet: Fleet, announce: Callable[[FleetEvent], None]) -> Iterator[None]:
    """Keep house on a thread of its own while the context lasts."""

    def run(stop: threading.Event) -> None:
        rounds = round_guard("the fleet's folder was not looked at", announce)
        while True:
            keep_house(fleet, announce, time.time(), rounds)
            if stop.wait(_INTERVAL_S):
                return

    with background("warden-housekeeping", run):
        yield
