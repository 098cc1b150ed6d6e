"""`warden serve` where the key of the devices' CA is under a passphrase."""

import queue
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import tomli_w
from host_kit import new_fleet, refused
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_client import secretfile
from warden_host.errors import HostError
from warden_host.fleet import client_pki, pki
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.service import crl_keeper
from warden_host.service.run import serving

PASSPHRASE = b"five words drawn by chance"


@pytest.fixture
def fleet(tmp_path):
    made = new_fleet(tmp_path)
    (port,) = free_ports(1)
    table = {"auth": "certificate", "certificate_port": port}
    (made.root / CONFIG).write_text(tomli_w.dumps(made.document | {"connection": table}))
    client_pki.create(made, None)
    path = made.keys / f"{client_pki.ISSUER}.key"
    secretfile.write(path, pki.ca_key_pem(pki.load_key(path), PASSPHRASE))
    return Fleet(made.root)


def shorten(fleet, life: timedelta) -> None:
    """Leave the list so much time."""
    ca = client_pki.load_issuer(fleet, PASSPHRASE)
    client_pki.write_crl(fleet, client_pki.make_crl(ca, (), life), ca.certificate)


def left(fleet) -> timedelta:
    return client_pki.crl_ends(fleet) - datetime.now(UTC)


def test_with_the_passphrase_the_list_stays_fresh(fleet):
    shorten(fleet, timedelta(days=2))
    with serving(fleet, None, False, PASSPHRASE):
        assert left(fleet) > timedelta(days=29)


def test_without_it_a_good_list_serves(fleet):
    shorten(fleet, timedelta(days=2))
    said = []
    with serving(fleet, lambda event: said.append(event.text)):
        end = time.monotonic() + PATIENCE_S
        while not any("passphrase" in text for text in said):
            assert time.monotonic() < end, said
            time.sleep(0.02)
    assert left(fleet) < timedelta(days=2)


@pytest.mark.parametrize("how", ["ended", "missing", "damaged"])
def test_without_it_no_list_no_start(fleet, how):
    path = fleet.broker / client_pki.CRL
    if how == "ended":
        shorten(fleet, timedelta(seconds=-1))
    elif how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40])
    with refused("passphrase-missing"), serving(fleet):
        pass


def test_a_wrong_one_is_refused_at_the_start(fleet):
    """Also while the list is fresh: nobody would be there when it is written anew."""
    with refused("passphrase-wrong"):
        crl_keeper.prepare(fleet, b"another one of some length")


def test_a_list_that_can_not_be_written_is_told_and_written_later(fleet, monkeypatch):
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    keeper = crl_keeper.CrlKeeper(fleet, lambda: None, lambda _, text: told.put(text), PASSPHRASE)
    ended = [HostError("database-damaged", "no"), OSError(28, "No space left on device")]
    done = threading.Event()

    def check() -> None:
        if ended:
            keeper.wake()
            raise ended.pop(0)
        done.set()

    monkeypatch.setattr(keeper, "check", check)
    keeper.start()
    assert "no" in told.get(timeout=PATIENCE_S)
    assert "No space left" in told.get(timeout=PATIENCE_S)
    assert done.wait(PATIENCE_S)
    keeper.close()


def test_a_list_that_is_fresh_is_not_written_at_the_start(fleet):
    shorten(fleet, timedelta(days=29))
    path = fleet.broker / client_pki.CRL
    before = path.read_bytes()
    for passphrase in (PASSPHRASE, None):
        crl_keeper.prepare(fleet, passphrase)
    assert path.read_bytes() == before
