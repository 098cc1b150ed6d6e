"""Test on an emulated Pico W: `make test-pico FIRMWARE=file.uf2`; without a firmware, skip."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def firmware() -> Path:
    """Return the RPI_PICO_W firmware (.uf2) that the tests run on."""
    name = os.environ.get("FIRMWARE")
    if not name or "PICO_PYTHON" not in os.environ:
        pytest.skip("no firmware: `make test-pico FIRMWARE=file.uf2` runs these")
    return Path(name).resolve()
