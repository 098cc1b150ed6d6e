"""Fixtures of the host's tests: a pair around one session, an engine on its stage, its device."""

import sqlite3

import pytest
from cli_kit import fake
from engine_kit import POLICY, K, Stage
from host_kit import PeerDevice
from hypothesis import settings
from port_kit import free_ports
from session_kit import Pair
from warden_host.broker.mosquitto import registry
from warden_host.cli import main
from warden_host.protocol import policy
from warden_host.stopping import Stop

# Of each example too: how long one takes is the machine's business.
settings.register_profile("warden", deadline=None)
settings.load_profile("warden")


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def peer() -> PeerDevice:
    return PeerDevice(K["authority"], policy.policy_hash(POLICY))


@pytest.fixture
def stop():
    with Stop() as made:
        yield made


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    """A fleet of its own, with a stand-in for MicroPython and for umqtt."""
    port, admin = free_ports(2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WARDEN_FLEET", str(tmp_path / "fleet"))
    monkeypatch.setenv("WARDEN_UMQTT", str(tmp_path / "umqtt"))
    (tmp_path / "umqtt").mkdir()
    (tmp_path / "umqtt" / "simple.py").touch()
    fake(tmp_path, monkeypatch, "print('{\"ok\": true}')")
    assert main.run(["init", "fleet", "--port", str(port), "--admin-port", str(admin)]) == 0
    capsys.readouterr()
    return tmp_path / "fleet"


@pytest.fixture
def free_at_the_broker(monkeypatch) -> list[str]:
    """What was asked of the stopped broker.

    Each time another process must be able to write fleet.db, without a wait.
    """
    asked = []

    def watched(name: str):
        real = getattr(registry._Stopped, name)

        def ask(self, *arguments):
            database = sqlite3.connect(self._folder.parent / "fleet.db", timeout=0)
            database.execute("BEGIN IMMEDIATE")
            database.close()
            asked.append(name)
            return real(self, *arguments)

        return ask

    for name in ("put", "disable", "enable", "replace_rights", "remove"):
        monkeypatch.setattr(registry._Stopped, name, watched(name))
    return asked
