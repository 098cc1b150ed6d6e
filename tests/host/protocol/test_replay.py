"""The edges of the replay window, in numbers: 64 counters, as docs/protocol.md promises."""

import pytest
from warden_client.protocol.replay import ReplayWindow


@pytest.mark.parametrize("highest", [63, 64, 100, (1 << 32) - 1])
def test_the_window_is_64_wide(highest):
    window = ReplayWindow()
    window.mark_seen(highest)
    assert window.is_new(highest + 1)
    assert not window.is_new(highest)
    assert window.is_new(highest - 63)
    assert not window.is_new(highest - 64)


def test_a_jump_keeps_what_is_still_inside():
    window = ReplayWindow()
    window.mark_seen(0)
    window.mark_seen(63)
    assert not window.is_new(0)
    assert all(window.is_new(counter) for counter in range(1, 63))
    window.mark_seen(64)
    assert not window.is_new(0)
    assert not window.is_new(63)
    assert window.is_new(1)
    window.mark_seen(64 + 64)
    assert all(window.is_new(counter) for counter in range(65, 128))
    assert not window.is_new(64)


def test_a_late_counter_counts_once():
    window = ReplayWindow()
    for counter in (10, 5, 7):
        assert window.is_new(counter)
        window.mark_seen(counter)
        assert not window.is_new(counter)
    assert window.is_new(6)
