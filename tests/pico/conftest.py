"""Test on an emulated Pico W: `make test-pico FIRMWARE=file.uf2`; without a firmware, skip."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import World, forwarding, leaf
from pico_kit import HOST, PATIENCE_S
from port_kit import free_ports


@pytest.fixture(scope="session")
def firmware() -> Path:
    """Return the RPI_PICO_W firmware (.uf2) that the tests run on."""
    name = os.environ.get("FIRMWARE")
    if not name or "PICO_PYTHON" not in os.environ:
        pytest.skip("no firmware: `make test-pico FIRMWARE=file.uf2` runs these")
    return Path(name).resolve()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Yield a fleet with TLS before the broker, which drops clients that need 90 s."""
    for module in ("server_kit", "ota_e2e_kit"):
        monkeypatch.setattr(f"{module}.PATIENCE_S", PATIENCE_S)
    (port,) = free_ports(1)
    with World(tmp_path, device_port=port, host=HOST, patience_s=PATIENCE_S) as made:
        with forwarding(made, leaf(made, tmp_path), port):
            yield made
