"""The edges of the replay window, in numbers: 64 counters, as docs/protocol.md promises."""

import pytest
from warden_host.protocol.replay import ReplayWindow


@pytest.mark.parametrize("highest", [63, 64, 100, (1 << 32) - 1])
def test_the_window_is_64_wide(highest):
    window = ReplayWindow()
    window.take(highest)
    assert window.fresh(highest + 1)
    assert not window.fresh(highest)
    assert window.fresh(highest - 63)
    assert not window.fresh(highest - 64)


def test_a_jump_keeps_what_is_still_inside():
    window = ReplayWindow()
    window.take(0)
    window.take(63)
    assert not window.fresh(0)
    assert all(window.fresh(counter) for counter in range(1, 63))
    window.take(64)
    assert not window.fresh(0)
    assert not window.fresh(63)
    assert window.fresh(1)
    window.take(64 + 64)
    assert all(window.fresh(counter) for counter in range(65, 128))
    assert not window.fresh(64)


def test_a_late_counter_counts_once():
    window = ReplayWindow()
    for counter in (10, 5, 7):
        assert window.fresh(counter)
        window.take(counter)
        assert not window.fresh(counter)
    assert window.fresh(6)
