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
from warden_host.service.background import background
from warden_host.store.store import Store

_PAUSE_S = 1.0


@contextmanager
def sweeping(fleet: Fleet, announce: Callable[[FleetEvent], None]) -> Iterator[None]:
    """Look once a second for ended tokens and revoked devices, on a thread of its own."""

    def run(stop: threading.Event) -> None:
        said = ""
        removed: set[str] = set()
        rabbitmq = RabbitSweeps(fleet)
        with Store(fleet.database) as store:
            while not stop.wait(_PAUSE_S):
                try:
                    app_tokens.sweep(fleet, store, removed)
                    rabbitmq.look(store)
                    said = ""
                # Of any kind: without this thread no token would end. The next look tries again.
                except Exception as error:  # noqa: BLE001
                    code = error.code if isinstance(error, HostError) else type(error).__name__
                    if code != said:
                        text = getattr(error, "text", "tokens were not cut off")
                        announce(FleetEvent("notice", code=code, text=text))
                    said = code

    with background("warden-tokens", run):
        yield
