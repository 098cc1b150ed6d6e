"""Where a device fetches its tokens: the terms, the order to change them, each answer to it."""

from dataclasses import replace
from typing import Any

import pytest
from warden_host.devices import token_terms
from warden_host.devices.token_terms import TokenTerms
from warden_host.errors import HostError

TERMS = TokenTerms("https://id.example:8443/token", "lock-1", b"very secret\x00\xff")
PINS = [bytes(32), bytes(31) + b"1"]


class Device:
    """A device that settles an order at the question `settles`, proven or not."""

    def __init__(self, proves: bool = True, settles: int = 2) -> None:
        self.proves, self.left = proves, settles
        self.state = {"id": 3, "proved": 3, "pending": False}
        self.orders: list[dict[str, Any]] = []
        self.lost: set[int] = set()  # questions without an answer, from 0
        self.asked = -1

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if order:
            self.orders.append(order)
            self.state |= {"id": order["id"], "pending": True}
        elif self.state["pending"]:
            self.left -= 1
            if not self.left:
                self.state["pending"] = False
                if self.proves:
                    self.state["proved"] = self.state["id"]
        if self.asked in self.lost:
            raise HostError("timed-out", "no reply")
        return {"ok": True, "reply": {"ok": True, "result": dict(self.state)}}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(token_terms.time, "sleep", lambda _: None)


def change(device: Any, terms: TokenTerms = TERMS) -> None:
    token_terms.change("lamp", device.ask, terms, lambda _: None, 60)


def refused(code: str, device: Any, terms: TokenTerms = TERMS) -> HostError:
    with pytest.raises(HostError) as error:
        change(device, terms)
    assert error.value.code == code
    assert "very secret" not in str(error.value) + error.value.hint
    return error.value


def test_terms_that_work():
    device = Device()
    change(device)
    (order,) = device.orders
    assert order == {"id": 4, "terms": TERMS.terms()}
    assert TERMS.record() == [1, 0, *TERMS.terms()]
    assert "very secret" not in repr(TERMS)


def test_terms_that_do_not():
    refused("token-unproved", Device(proves=False))


@pytest.mark.parametrize("lost", [{1}, {2}, {1, 2, 3}, {2, 3}])
def test_replies_that_are_lost(lost):
    device = Device()
    device.lost = lost
    change(device)
    assert {order["id"] for order in device.orders} == {4}


def test_another_change_meanwhile():
    device = Device(settles=99)
    ask = device.ask

    def overtaken(order: dict[str, Any]) -> dict[str, Any]:
        if device.asked == 1:
            device.state["id"] = 9
        return ask(order)

    device.ask = overtaken  # type: ignore[method-assign]
    assert "another change" in str(refused("not-applicable", device))


def test_a_change_without_an_end_is_given_up():
    device = Device()
    device.lost = set(range(1, 1_000_000))  # all but the question for the present state
    with pytest.raises(HostError) as error:
        token_terms.change("lamp", device.ask, TERMS, lambda _: None, 0.05)
    assert (error.value.code, "no reply" in error.value.text) == ("timed-out", True)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ({"error": "unknown-command"}, "not-applicable"),
        ({"error": "busy"}, "timed-out"),
        ({"error": "bad-body"}, "command-refused"),
        ({"error": None}, "command-refused"),
    ],
)
def test_refusals(reply, code):
    with pytest.raises(HostError) as error:
        token_terms.state("lamp", lambda _: {"ok": False, "reply": reply})
    assert error.value.code == code


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        {"id": 1},
        {"id": 1, "proved": "1"},
        {"id": -1, "proved": 0},
        {"id": True, "proved": 0},
    ],
)
def test_answers_in_another_form(result):
    with pytest.raises(HostError) as error:
        token_terms.state("lamp", lambda _: {"ok": True, "reply": {"result": result}})
    assert error.value.code == "bad-body"


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://id.example/token"},
        {"url": "https://id.example"},
        {"url": "https://user@id.example/"},
        {"url": "https://id.example/a b"},
        {"url": "https://id.example/a#b"},
        {"url": "https://id.example/\n"},
        {"url": "https://id.example/" + "x" * 512},
        {"client_id": ""},
        {"client_id": "ä" * 257},
        {"secret": b""},
        {"secret": bytes(513)},
        {"scope": "x" * 513},
        {"way": "digest"},
        {"user": ""},
        {"trust": ([], PINS)},
        {"trust": ([b"ca"], PINS[:1])},
        {"trust": ([b"ca"], [PINS[0], PINS[0]])},
        {"trust": ([bytes(2049)], PINS)},
    ],
)
def test_terms_that_no_device_takes(changes):
    refused("bad-argument", Device(), replace(TERMS, **changes))


def test_what_the_policy_needs():
    for auth in ("password", "certificate"):
        token_terms.check_needed(None, auth)
        with pytest.raises(HostError):
            token_terms.check_needed(TERMS, auth)
    token_terms.check_needed(TERMS, "token")
    with pytest.raises(HostError):
        token_terms.check_needed(None, "token")
