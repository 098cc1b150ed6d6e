"""What gives a played-back flash away: each of the three rules alone, and what is only late."""

import pytest
from session_kit import Pair
from warden_client.protocol.freshness import NOTHING_PROVEN, DeviceMark, Proof, is_rollback
from warden_client.protocol.results import Quarantined, Send, SessionUp

LAST = Proof(boot=5, connect=10, vault_gen=7)
FLOOR = DeviceMark(boot=5, connect=20, vault_gen=9)


@pytest.mark.parametrize(
    ("proof", "back"),
    [
        (Proof(5, 15, 7), False),  # before the newest hello, as new as this pair's last one
        (Proof(5, 15, 6), True),  # older than what this very pair proved
        (Proof(5, 20, 8), False),  # not later than the newest hello: the vault rose in between
        (Proof(5, 21, 8), True),  # later, and still with an older vault
        (Proof(5, 21, 9), False),
        (Proof(6, 0, 8), True),
        (Proof(6, 0, 9), False),
        (Proof(4, 99, 9), True),  # an earlier boot
        (Proof(4, 99, 99), True),
        (Proof(5, 11, 99), False),
    ],
)
def test_a_lower_counter_is_a_rollback(proof, back):
    assert is_rollback(proof, LAST, FLOOR) is back


def test_an_application_quarantines_a_vault_older_than_its_own_session_saw():
    """Another application proved a later hello meanwhile, so the floor does not apply."""
    pair = Pair(Proof(1, 5, 7), DeviceMark(boot=1, connect=9, vault_gen=7))
    pair.device.connect = 6
    for vault_gen, kinds in ((7, [Send, SessionUp]), (6, [Quarantined])):
        pair.device.vault_gen = vault_gen
        pair.device.take_welcome(pair.welcome())
        assert [type(each) for each in pair.receive("ready", pair.device.ready())] == kinds
    assert "vault generation" in pair.mark.quarantine


def test_nothing_proven_is_below_all():
    assert not is_rollback(Proof(0, 0, 0), NOTHING_PROVEN, DeviceMark())
    assert not is_rollback(Proof(0, 1, 0), NOTHING_PROVEN, DeviceMark())


def test_a_mark_only_increases():
    mark = DeviceMark()
    mark.raise_to(Proof(3, 8, 4))
    mark.raise_to(Proof(3, 2, 6))
    assert (mark.boot, mark.connect, mark.vault_gen) == (3, 8, 6)
    mark.raise_to(Proof(4, 0, 5))
    assert (mark.boot, mark.connect, mark.vault_gen) == (4, 0, 6)
    mark.raise_to(Proof(2, 99, 1))
    assert (mark.boot, mark.connect, mark.vault_gen) == (4, 0, 6)


def test_a_cleared_mark_has_nothing():
    mark = DeviceMark(3, 8, 4, "its boot went back")
    mark.reset()
    assert mark == DeviceMark(0, 0, 0, "")


def test_the_first_mark_of_a_device():
    assert NOTHING_PROVEN == (-1, -1, 0)
    assert DeviceMark() == DeviceMark(boot=0, connect=0, vault_gen=0, quarantine="")
