"""The order that takes a device's false time back: what the host refuses of a device's answers."""

import pytest
from host_kit import refused
from warden_host.devices import clock_order
from warden_host.devices.clock_order import State
from warden_host.fleet import pki

NOW = 1_800_000_000
SAID = {"session": "0123456789abcdef", "mark": NOW, "now": NOW + 5, "floor": NOW - 100}
KNOWN = State("0123456789abcdef", NOW, NOW + 5, NOW - 100)


def answer(**result: object) -> dict:
    return {"ok": True, "reply": {"result": result}}


def give(found: dict, unix_time: int = NOW) -> int:
    asked = []

    def ask(order: dict) -> dict:
        asked.append(order)
        return found

    key = pki.new_key()
    codes = clock_order.give("D1", ask, KNOWN, b"v" * 16, key, unix_time)
    assert asked[0]["time"] == unix_time and asked[0]["order"]["hex"]
    return codes


def test_what_a_device_says():
    assert clock_order.state("D1", lambda _: answer(**SAID)) == KNOWN


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": None},
        {"session": "0123456789ABCDEF"},
        {"session": "01"},
        {"mark": -1},
        {"now": 1 << 40},
        {"floor": True},
        {"floor": 1.5},
    ],
)
def test_a_state_of_another_form(wrong):
    with refused("bad-body"):
        clock_order.state("D1", lambda _: answer(**SAID | wrong))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"ok": False, "reply": {"error": "timed-out"}}, "timed-out"),
        ({"ok": False, "reply": {"error": "tampered"}}, "command-refused"),
        ({"ok": False}, "command-refused"),
        ({"ok": True, "reply": {"result": []}}, "bad-body"),
        (answer(time=NOW + 1, codes=0), "bad-body"),
        (answer(time=NOW, codes=-1), "bad-body"),
        (answer(time=NOW, codes=1 << 40), "bad-body"),
        (answer(time=NOW, codes=True), "bad-body"),
    ],
)
def test_answers_to_the_order(found, code):
    assert give(answer(time=NOW, codes=NOW + 30)) == NOW + 30
    with refused(code):
        give(found)


def test_no_time_before_the_firmware():
    with refused("bad-argument"):
        give(answer(time=KNOWN.floor - 1, codes=0), KNOWN.floor - 1)
