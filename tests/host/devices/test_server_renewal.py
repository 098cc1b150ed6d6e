"""A renewal of the server's key that stops between two files is completed by the next start."""

import pytest
from host_kit import new_fleet
from warden_client import secretfile
from warden_host.devices import server_renewal
from warden_host.fleet import pki


class Stop(Exception):
    """The power goes."""


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_a_stop_between_the_files(tmp_path, monkeypatch, files):
    fleet = new_fleet(tmp_path)
    keys = fleet.keys
    old, backup = pki.load_pins(keys)
    left = [files]
    real = secretfile.write

    def write(path, data):
        if not left[0]:
            raise Stop
        left[0] -= 1
        real(path, data)

    def renew():
        ca = pki.load_ca(keys)
        server_renewal.renew(fleet, store(), ca, None, new_key=True)

    class store:
        def devices(self):
            return []

    monkeypatch.setattr(secretfile, "write", write)
    if files < 3:
        with pytest.raises(Stop):
            renew()
    else:
        renew()
    # Devices pin both: whatever is there is accepted.
    live = pki.pin(pki.load_certificate(keys / "server.crt"))
    assert live == (old if files == 0 else backup)
    monkeypatch.undo()
    server_renewal.finish(fleet)
    assert pki.pin(pki.load_key(keys / "server.key")) == live
    after = pki.load_pins(keys)
    assert after[0] == live
    assert (after[1] == backup) == (files == 0)
    # Once: the next start changes nothing.
    server_renewal.finish(fleet)
    assert pki.load_pins(keys) == after
