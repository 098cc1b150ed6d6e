"""Two hosts with one fleet's keys: the one that devices don't reach finds it out and ends."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
import tomli_w
from host_kit import new_fleet, refused
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_host.broker import logins
from warden_host.broker.backend import Broker
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.service import address_watch
from warden_host.service.address_watch import AddressWatch
from warden_host.service.run import serving
from warden_host.store.store import Store


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A broker that a loaded machine keeps from answering is there all the same."""
    monkeypatch.setattr(address_watch, "_CONNECT_S", PATIENCE_S)


def changed(fleet: Fleet, **broker) -> Fleet:
    document = fleet.document | {"broker": fleet.document["broker"] | broker}
    (fleet.root / CONFIG).write_bytes(tomli_w.dumps(document).encode())
    return Fleet(fleet.root)


def copy_of(fleet: Fleet, folder: Path) -> Fleet:
    """The fleet on another host: its broker has ports of its own, devices the same address."""
    shutil.copytree(fleet.root, folder, ignore=shutil.ignore_patterns("*.sock"))
    os.chmod(folder, 0o700)
    port, admin = free_ports(2)
    return changed(Fleet(folder), port=port, admin_port=admin)


def test_a_copy_does_not_begin_to_serve(tmp_path):
    fleet = new_fleet(tmp_path)
    copy = copy_of(fleet, tmp_path / "copy")
    with serving(fleet) as service:
        service.check()
        with refused("fleet-served"), serving(copy):
            pass
    address_watch.check_unserved(copy)  # the original is gone


def test_one_that_loses_the_address_ends(tmp_path):
    fleet = new_fleet(tmp_path)
    copy = copy_of(fleet, tmp_path / "copy")
    news: list = []
    others: list = []
    with Broker(copy) as own:
        watch = AddressWatch(copy, news.append)
        own.on_refused_login = watch.before(others.append)
        watch.look()
        watch.check()  # nothing answers: the address leads nowhere
        with Broker(fleet):
            for _ in range(address_watch.SURE_AFTER):
                watch.check()
                watch.look(log_s=0.2)
            with refused("fleet-served"):
                watch.check()
    assert [event.code for event in news] == ["fleet-served"]


def test_its_own_broker_is_no_other_host(tmp_path):
    """Also by a name, and through a forwarder: the client ID is found in its own log."""
    fleet = changed(new_fleet(tmp_path), host="localhost")
    port = fleet.settings.broker.port
    fleet = changed(fleet, device_port=port)
    news: list = []
    others: list = []
    with Broker(fleet) as own, contextlib.ExitStack() as stack:
        watch = stack.enter_context(AddressWatch(fleet, news.append))
        own.on_refused_login = watch.before(others.append)
        assert address_watch.answers(fleet, "warden-probe-0")
        for _ in range(address_watch.SURE_AFTER + 1):
            watch.look(PATIENCE_S)
        watch.check()
    assert news == []
    # Our own question is no log-in that was refused; one of another client under such a name is.
    assert [one.client for one in others] == ["warden-probe-0"]
    with Store(fleet.database) as store:
        assert not list(logins.past(fleet, store, 0))


def test_a_second_service_on_this_machine_is_no_other_host(tmp_path, monkeypatch):
    fleet = new_fleet(tmp_path)
    monkeypatch.setattr(address_watch, "is_watched", lambda _: True)
    with Broker(fleet):
        assert address_watch.answers(fleet, "warden-probe-0")
        address_watch.check_unserved(fleet)
        with refused("broker-running"), Broker(fleet):
            pass


def test_where_it_is_not_looked_for(tmp_path):
    fleet = new_fleet(tmp_path)
    assert not address_watch.is_watched(fleet)  # devices connect to this machine itself
    assert address_watch.is_watched(changed(fleet, host="broker.example.net"))
    several = ["hub-1.example:8883", "hub-2.example:8883"]
    assert not address_watch.is_watched(changed(fleet, host="broker.example.net", servers=several))


def test_a_ca_that_cannot_be_read_does_not_end_the_watch(tmp_path):
    fleet = changed(new_fleet(tmp_path), host="localhost")
    (fleet.keys / "ca.crt").unlink()
    assert not address_watch.answers(fleet, "warden-probe-0")


def test_a_stranger_at_the_address_is_no_other_host(tmp_path):
    fleet = new_fleet(tmp_path)
    stranger = new_fleet(tmp_path / "stranger")
    elsewhere = stranger.settings.broker.port
    with Broker(stranger):
        address_watch.check_unserved(changed(fleet, device_port=elsewhere))
