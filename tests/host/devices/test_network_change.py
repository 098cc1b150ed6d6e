"""`warden wifi`: the order, the questions after it, and every answer that a device may give."""

from typing import Any

import pytest
from warden_host.devices import networks, trial
from warden_host.devices.bundle import Network
from warden_host.errors import HostError
from warden_host.names import AUTHORITY_COMMANDS

HOUSE = Network("house", "a new password")


class Device:
    """A device that takes an order, and settles it at the question `settles`, proven or not."""

    def __init__(
        self, proves: bool = True, settles: int = 2, names: tuple[str, ...] = ("garden",)
    ):
        self.proves, self.left = proves, settles
        self.state: dict[str, Any] = {
            "id": 3,
            "proved": 3,
            "networks": list(names),
            "pending": None,
        }
        self.orders: list[dict[str, Any]] = []
        self.lost: set[int] = set()  # questions without an answer, from 0
        self.asked = -1

    def ask(self, change: dict[str, Any] | None) -> dict[str, Any]:
        self.asked += 1
        if change is not None:
            self.orders.append(change)
            names = [change["add"][0]] if change["add"] else []
            self.state |= {"id": change["id"], "pending": names + change["keep"]}
        elif self.state["pending"] is not None:
            self.left -= 1
            if not self.left and self.proves:
                self.state |= {"proved": self.state["id"], "networks": self.state["pending"]}
            if not self.left:
                self.state["pending"] = None
        if self.asked in self.lost:
            raise HostError("timed-out", "no reply")
        return {"ok": True, "reply": {"ok": True, "result": dict(self.state)}}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(trial.time, "sleep", lambda _: None)


def change(device: Device, add: Network | None = HOUSE, *remove: str) -> list[str]:
    return networks.change("lamp", device.ask, add, remove, lambda _: None, 60)


def refused(code: str, device: Device, add: Network | None = HOUSE, *remove: str) -> HostError:
    with pytest.raises(HostError) as error:
        change(device, add, *remove)
    assert error.value.code == code
    assert "a new password" not in str(error.value) + error.value.hint
    return error.value


def test_a_network_that_works():
    device = Device()
    assert change(device) == ["house", "garden"]
    order = {"id": 4, "add": ["house", "a new password"], "keep": ["garden"]}
    assert device.orders == [order]


def test_a_network_that_does_not():
    device = Device(proves=False)
    assert "garden" in refused("network-unproved", device).text


@pytest.mark.parametrize("lost", [{1}, {2}, {1, 2, 3}, {2, 3}])
def test_replies_that_are_lost(lost):
    """Whatever is lost, the order is given once or again with its number."""
    device = Device()
    device.lost = lost
    assert change(device) == ["house", "garden"]
    assert {order["id"] for order in device.orders} == {4}


def test_an_order_that_never_arrived_is_given_again():
    device = Device()
    inner = device.ask

    def ask(change: dict[str, Any] | None) -> dict[str, Any]:
        if change is not None and not device.orders:
            device.orders.append(change)
            raise HostError("no-session", "it is away")
        return inner(change)

    device.ask = ask  # type: ignore[method-assign]
    assert change(device) == ["house", "garden"]
    assert len(device.orders) == 2 and device.orders[0] == device.orders[1]


def test_a_device_that_stays_away(monkeypatch):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(trial.time, "monotonic", lambda: next(clock))
    device = Device()
    device.lost = set(range(1, 100))
    device.left = 1000
    assert "no reply" in refused("timed-out", device).text


def test_which_networks_stay():
    device = Device(names=("garden", "cafe", "house"))
    change(device, HOUSE, "cafe")
    assert device.orders[0]["keep"] == ["garden"]
    assert device.orders[0]["add"] == ["house", "a new password"]
    assert change(Device(names=("house",)), HOUSE) == ["house"]  # with a new password
    device = Device(names=("garden", "cafe"))
    assert change(device, None, "garden") == ["cafe"]
    assert device.orders[0]["add"] is None


def test_what_is_not_sent_at_all():
    for code, device, add, remove in (
        ("bad-argument", Device(), None, ("garden",)),
        ("bad-argument", Device(), HOUSE, ("cafe",)),
        ("bad-argument", Device(), Network("house", "short"), ()),
        ("bad-argument", Device(), Network("x" * 33), ()),
        ("bad-argument", Device(names=tuple(f"n{i}" for i in range(8))), HOUSE, ()),
    ):
        refused(code, device, add, *remove)
        assert not device.orders
    device = Device()
    device.state["pending"] = ["cafe"]
    assert "cafe" in refused("not-applicable", device).text
    assert not device.orders


def test_another_change_meanwhile():
    device = Device()
    inner = device.ask

    def ask(change: dict[str, Any] | None) -> dict[str, Any]:
        answer = inner(change)
        if device.orders:
            answer["reply"]["result"]["id"] = 5
        return answer

    device.ask = ask  # type: ignore[method-assign]
    refused("not-applicable", device)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ({"error": "unknown-command"}, "not-applicable"),
        ({"error": "bad-body"}, "command-refused"),
        ({"error": 5}, "command-refused"),
        ({}, "command-refused"),
        ({"error": "old-session"}, "timed-out"),
        ({"ok": True, "result": None}, "bad-body"),
        ({"ok": True, "result": {}}, "bad-body"),
    ],
)
def test_other_answers(reply, code):
    with pytest.raises(HostError) as error:
        networks.state("lamp", lambda _: {"ok": reply.get("ok") is True, "reply": reply})
    assert error.value.code == code


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": -1},
        {"id": True},
        {"id": 1 << 32},
        {"proved": None},
        {"networks": None},
        {"networks": "garden"},
        {"networks": [5]},
        {"pending": "garden"},
        {"pending": [None]},
    ],
)
def test_a_state_in_another_form(wrong):
    device = Device()
    device.state |= wrong
    with pytest.raises(HostError) as error:
        networks.state("lamp", device.ask)
    assert error.value.code == "bad-body"


def test_it_is_the_authority_s_alone():
    """So no application can be granted it, and no event shows its body."""
    assert "wifi" in AUTHORITY_COMMANDS
