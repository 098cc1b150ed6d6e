"""Cut off applications' tokens at their end, and revoked devices again, while `warden serve` runs.

The authority checks each token's end itself; a broker that knows the token as a password does not.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from warden_host.devices import app_tokens
from warden_host.devices.rabbitmq_sweeps import RabbitSweeps
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.service.background import background, round_guard
from warden_host.store.store import Store

_PAUSE_S = 1.0


@contextmanager
def sweeping(fleet: Fleet, announce: Callable[[FleetEvent], None]) -> Iterator[None]:
    """Look once a second for ended tokens and revoked devices, on a thread of its own."""

    removed: set[str] = set()
    rabbitmq = RabbitSweeps(fleet)
    said = ""

    def look(store: Store) -> None:
        nonlocal said
        try:
            app_tokens.sweep(fleet, store, removed)
            rabbitmq.look(store)
            said = ""
        except HostError as error:
            if error.code != said:
                announce(FleetEvent("notice", code=error.code, text=error.text))
            said = error.code

    def run(stop: threading.Event) -> None:
        rounds = round_guard("tokens were not cut off", announce)

        def look_on() -> None:
            with Store(fleet.database) as store:
                while not stop.wait(_PAUSE_S):
                    rounds.attempt(look, store)

        while not rounds.attempt(look_on):
            if stop.wait(_PAUSE_S):
                return

    with background("warden-tokens", run):
        yield
