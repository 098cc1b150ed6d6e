"""A served fleet with its console, for the modules that have a fixture `fleet` of their own."""

from collections.abc import Iterator

import pytest
from process_kit import PATIENCE_S
from warden_host.engine.events import FleetEvent
from warden_host.fleet.fleet import Fleet
from warden_host.service import console_process
from warden_host.service.console import WebAddress
from warden_host.service.run import Service, serving


@pytest.fixture(scope="module")
def news() -> list[FleetEvent]:
    """What `warden serve` shows."""
    return []


@pytest.fixture(scope="module")
def service(fleet: Fleet, news: list[FleetEvent]) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console_process, "START_S", PATIENCE_S)  # Python starts slowly under load
        with serving(fleet, news.append, web=WebAddress("127.0.0.1", 0)) as made:
            yield made


@pytest.fixture(scope="module")
def port(service: Service) -> int:
    """Where the console listens."""
    assert service.console is not None
    return service.console.port
