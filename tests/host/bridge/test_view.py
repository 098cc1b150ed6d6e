"""What the bridge keeps of a device's events: plain values, bounded."""

import pytest
from warden_host.bridge import view
from warden_host.bridge.view import FleetView, flatten

_DEEP = {"a": {"b": {"c": {"d": 1}, "e": 2}}}


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ({"c": 21.5}, {"t_c": 21.5}),
        ({"open": True, "n": -3, "why": "rain\x1b[31m"}, None),
        (_DEEP, {"t_a_b_e": 2}),
        ({"list": [1], "nothing": None, "raw": {"hex": "00"}}, {}),
        ({"x": float("nan"), "y": float("inf")}, {}),
        ({'a"b\n{}': 1, "ä": 2}, {"t_a_b___": 1, "t__": 2}),
        ({"k" * 500: 1}, {"t_" + "k" * 62: 1}),
        (7, {"t": 7}),
    ],
)
def test_the_plain_values_of_an_event(body, values):
    found = dict(flatten("t", body))
    if values is None:
        values = {"t_open": True, "t_n": -3, "t_why": "rain\N{REPLACEMENT CHARACTER}[31m"}
    assert found == values


def test_no_sender_fills_the_memory(monkeypatch):
    monkeypatch.setattr(view, "MAX_DEVICES", 2)
    fleet = FleetView()
    for number in range(5):
        fleet.apply({"kind": "event", "device": f"D{number}", "name": "t", "body": {"c": 1}})
    assert list(fleet.devices) == ["D0", "D1"]
    for number in range(view.MAX_VALUES + 10):
        fleet.apply({"kind": "event", "device": "D0", "name": "t", "body": {f"v{number}": 1}})
    device = fleet.devices["D0"]
    assert (len(device.values), device.dropped) == (view.MAX_VALUES, 11)
    fleet.apply({"kind": "event", "device": "D0", "name": "t", "body": {"c": 2}})
    assert device.values["t_c"] == 2  # a known name goes on


def test_the_state_of_a_device():
    fleet = FleetView()
    assert fleet.update_list([["D1", "lock", "asleep", False]]) == ["D1"]
    assert fleet.update_list([["D1", "lock", "asleep", False]]) == []
    device = fleet.devices["D1"]
    for kind, presence in (("session", "online"), ("left", "away"), ("came", "online")):
        assert fleet.apply({"kind": kind, "device": "D1"}) == "D1"
        assert device.presence == presence
    fleet.apply({"kind": "quarantined", "device": "D1"})
    fleet.apply({"kind": "incident", "device": "D1"})
    assert (device.quarantined, device.incidents) == (True, 1)
    assert fleet.apply({"kind": "notice", "text": "x"}) == ""
    assert fleet.apply({"kind": "reply", "device": "D1"}) == ""
    # Without `serve`, the state of no device is known; its telemetry is.
    fleet.apply({"kind": "event", "device": "D1", "name": "t", "body": {"c": 1}, "time": 5.0})
    assert fleet.disconnect() == ["D1"]
    assert (device.online, device.values, device.seen) == (False, {"t_c": 1}, 5.0)
