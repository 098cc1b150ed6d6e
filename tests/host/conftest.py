"""Fixtures of the host's tests: a pair around one session, an engine on its stage, its device."""

import pytest
from engine_stage import POLICY, K, Stage
from host_kit import PeerDevice
from session_pair import Pair
from warden_host import policy


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
