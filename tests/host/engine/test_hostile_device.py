"""Messages of a hostile device cost that device its own messages, never the fleet's service."""

import io
import json

import pytest
from engine_kit import PLAIN, Stage, run
from host_kit import DEVICE, NoLink, new_fleet, receive, refused, settle, topic
from rich.console import Console
from warden_client import jsontext
from warden_host.cli import screen, send
from warden_host.engine.engine import Engine
from warden_host.engine.events import KINDS, FleetEvent
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.service.authority import Authority
from warden_host.store.store import Store

DEEP = b'{"event":"x","deviceId":"D1","body":{"a":' + b"[" * 600 + b"]" * 600 + b"}}"


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"]}\\"":'])
def test_nesting_has_a_limit_before_anything_recurses(opening):
    for count in (17, 600, 3000):
        with refused("bad-body"):
            jsontext.parse_object('{"a":' + opening * count, 1 << 20, "bad-body")


def test_nesting_within_the_limit_is_accepted():
    text = '{"a":' + "[" * 15 + "]" * 15 + "}"
    assert jsontext.parse_object(text, 1000)["a"]
    with refused("bad-json"):
        jsontext.parse_object('{"a":[' + text + "]}", 1000)
    brackets = "[{" * 100 + '\\"]\\\\'
    value = jsontext.parse_object('{"a":"' + brackets + '"}', 1000)
    assert value["a"].startswith("[{[{")
    for broken in (b'{"a":"' + b'\\"' * 30000, '{"a":1}'.encode("utf-16"), b"\xff{}"):
        with refused("bad-json"):
            jsontext.parse_object(broken, 1 << 20)


@pytest.fixture
def plain_stage(tmp_path):
    made = Stage(tmp_path, PLAIN)
    yield made
    made.store.close()


def test_a_deep_message_is_refused_by_name(plain_stage):
    plain_stage.receive("x", DEEP, fmt="json")
    assert plain_stage.codes() == ["bad-body"]


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """An authority without a broker, and what it announced."""
    monkeypatch.setattr("warden_host.service.authority.AppLink", NoLink)
    fleet = new_fleet(tmp_path)
    with Store(fleet.database) as store:
        store.add_device(PLAIN)
    news: list[FleetEvent] = []
    with Authority(fleet, news.append) as made:
        yield made, news


def test_no_message_ends_the_engine(authority, monkeypatch):
    made, news = authority

    def bug(*_: object) -> None:
        raise RecursionError("secret words")

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "on_message", bug)
        receive(made, topic("evt", "x", "json"), b"{}", count=3)
        settle(made)
        assert made.ask(Engine.online) == {}
    assert made.alive()
    notices = [news_ for news_ in news if news_.code == "internal-error"]
    assert notices
    assert all("RecursionError" in each.text and "secret" not in each.text for each in notices)
    assert "3" in notices[-1].text


def test_a_question_and_a_command_that_fail_by_a_bug_are_answered(authority, monkeypatch):
    made, _ = authority

    def bug(*_: object) -> None:
        raise KeyError("secret words")

    for ask in (lambda: made.ask(bug), lambda: made.command(Request(DEVICE, "set_relay", {}))):
        with monkeypatch.context() as patched:
            patched.setattr(Engine, "start", bug)
            with refused("internal-error"):
                ask()
    assert made.alive()


def test_a_job_that_fails_by_a_bug_is_answered(plain_stage):
    def job():
        raise ZeroDivisionError
        yield

    results: list = []
    plain_stage.engine.start(job(), results.append)
    assert isinstance(results[0], HostError)
    assert results[0].code == "internal-error"


# What reaches a terminal

EVIL = "\x1b[2J\x1b]0;owned\x07\u202e\ud800\r\nfake"
ALLOWED = {"\n"}


def harmless(text: str) -> bool:
    return all(char.isprintable() or char in ALLOWED for char in text) and "\u202e" not in text


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("tampered", "tampered"),
        ("a-b-3", "a-b-3"),
        (EVIL, "unreadable"),
        ("Tampered", "unreadable"),
        ("x" * 41, "unreadable"),
        ("", "unreadable"),
        ("a b", "unreadable"),
        (None, "unreadable"),
        ({"a": EVIL}, "unreadable"),
        (7, "unreadable"),
    ],
)
def test_only_a_slug_is_a_code(said, code):
    assert jsontext.slug(said) == code


@pytest.mark.parametrize("kind", KINDS)
def test_no_happening_steers_a_terminal(kind, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(screen, "out", Console(file=shown, highlight=False, force_terminal=False))
    body = {EVIL: EVIL, "n": EVIL}
    news = FleetEvent(kind, EVIL, EVIL, EVIL, EVIL, 7, body, EVIL)
    screen.show(screen.line(news))
    assert harmless(shown.getvalue())
    assert shown.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    "result",
    [
        {"forge": "tamper", "verdict": EVIL, "original": {EVIL: EVIL}},
        {"ok": True, "reply": {"result": {EVIL: [EVIL]}}},
        {"ok": False, "reply": {"error": EVIL}},
        {"ok": False, "reply": {"error": {EVIL: EVIL}}},
        {"ok": False, "reply": EVIL},
        {"ok": False, "app": EVIL, "allowed": [EVIL], "reply": {"error": "not-allowed"}},
    ],
)
def test_no_outcome_steers_a_terminal(result):
    text = send.outcome({"device": EVIL, "command": EVIL} | result).plain
    assert harmless(text)
    if "verdict" in result:
        assert "unreadable" in text


def test_no_error_steers_a_terminal(capsys, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(screen, "err", Console(file=shown, highlight=False))
    screen.fail(HostError("command-refused", "it said " + EVIL, "try " + EVIL), False)
    assert harmless(shown.getvalue())
    screen.fail(HostError("command-refused", "it said " + EVIL), True)
    assert capsys.readouterr().out.strip().isprintable()


def test_half_a_character_of_a_device_reaches_no_page(plain_stage):
    """Nothing could encode it: each page that shows the fleet's log would fail for good."""
    for body in ({"text": "\ud800"}, {"\udfff": 1}, {"text": "\udc00\ud800"}):
        event = {"event": "temperature", "deviceId": DEVICE, "body": body}
        plain_stage.receive("temperature", json.dumps(event).encode(), fmt="json")
    pair = {"event": "temperature", "deviceId": DEVICE, "body": {"text": "\U0001f600"}}
    plain_stage.receive("temperature", json.dumps(pair).encode(), fmt="json")
    assert "bad-body" in plain_stage.codes()
    events = [one.body for one in plain_stage.news if one.kind == "event"]
    assert events == [pair["body"]]


def test_a_verdict_that_is_no_slug_is_unreadable(plain_stage):
    results = run(plain_stage, Request(DEVICE, "set_relay", {}, forge="wrong-id"))
    number = json.loads(plain_stage.last("set_relay"))["id"]
    error = EVIL.replace("\ud800", "")
    reply = {"event": "reply", "deviceId": DEVICE, "id": number, "ok": False, "error": error}
    plain_stage.receive("reply", json.dumps(reply).encode(), fmt="json")
    assert results[0]["verdict"] == "unreadable"
