"""Fixtures of the host's tests: a pair around one session, an engine on its stage, its device."""

import pytest
from cli_kit import fake
from engine_stage import POLICY, K, Stage
from host_kit import PeerDevice, free_ports
from session_pair import Pair
from warden_host import cli, policy


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
def folder(tmp_path, monkeypatch, capsys):
    """A fleet of its own, with a stand-in for MicroPython and for umqtt."""
    port, admin = free_ports(2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WARDEN_FLEET", str(tmp_path / "fleet"))
    monkeypatch.setenv("WARDEN_UMQTT", str(tmp_path / "umqtt"))
    (tmp_path / "umqtt").mkdir()
    (tmp_path / "umqtt" / "simple.py").touch()
    fake(tmp_path, monkeypatch, "print('{\"ok\": true}')")
    assert cli.run(["init", "fleet", "--port", str(port), "--admin-port", str(admin)]) == 0
    capsys.readouterr()
    return tmp_path / "fleet"
