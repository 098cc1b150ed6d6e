"""Install the package into an empty emulated Pico W by its own mip, from a web server."""

from pathlib import Path

import pytest
from mip_kit import serving
from pico_kit import ARCHITECTURE, HOST, NETWORK, Pico, build_image
from warden_build import mip
from warden_build.compiled import build_repository

INSTALL = f"""
import mip, network, os, time
station = network.WLAN(network.WLAN.IF_STA)
station.active(True)
station.connect({NETWORK.ssid!r}, "any")
while not station.isconnected():
    time.sleep_ms(50)
mip.install("http://{HOST}:%d/{ARCHITECTURE}/%s.json", index="http://{HOST}:1", target="/lib")
print(sorted(os.listdir("/")), os.statvfs("/")[3], "blocks left")
"""
USE = {
    "RPI_PICO_W": "import board\nfrom warden import Device\nimport umqtt.simple\nprint(board.NAME)\n",
    "vault": "from warden.vault import Vault\nprint(Vault.__name__)\n",
}
SAID = {"RPI_PICO_W": "RPI_PICO_W", "vault": "Vault"}


@pytest.mark.parametrize("name", USE)
def test_an_empty_board(firmware: Path, tmp_path: Path, name: str) -> None:
    mip.write_compiled(mip.inputs(build_repository()), ARCHITECTURE, tmp_path / ARCHITECTURE)
    (tmp_path / "root").mkdir()
    image = build_image(tmp_path / "root", tmp_path / "flash.littlefs")
    with serving(tmp_path) as port, Pico(firmware, image) as pico:
        said = pico.execute(INSTALL % (port, name))
        print(said)
        assert "\nDone" in said
        assert ("boot.py" in said.splitlines()[-1]) == (name == "RPI_PICO_W")
        assert pico.execute(USE[name]).split() == [SAID[name]]
        if name == "RPI_PICO_W":
            pico.order(reset=1)
            pico.wait_line("warden: this board is not provisioned")
            pico.wait_line("warden: here is the console")
