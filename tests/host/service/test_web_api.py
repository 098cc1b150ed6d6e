"""The API of the console: a real process, a real broker; tokens, origins, refusals, streams."""

import contextlib
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from api_kit import Caller, Stream, token_of, upgrade
from engine_kit import PLAIN, SEALED, Stage
from host_kit import PeerDevice, new_fleet, refused
from process_kit import PATIENCE_S
from warden_host import jsontext
from warden_host.devices import app_tokens, setup
from warden_host.engine.events import FleetEvent
from warden_host.fleet import pki
from warden_host.protocol import access_token, policy
from warden_host.protocol.access_token import Claims, Scope
from warden_host.service import control, web_api, web_api_streams
from warden_host.service.console import MOST_CALLS
from warden_host.service.event_feed import Entry, EventFeed
from warden_host.service.web_api_streams import message, shown
from warden_host.service.wrong_logins import WrongLogins
from warden_host.store.store import App, Pair, Store
from web_account_kit import Bans

ORIGIN, OTHER = "https://app.example", "http://localhost:8000"
FULL = Scope(("relay",), True, ("set_relay",), True, (ORIGIN,))
HOME = Pair("home", b"h" * 32, b"H" * 32, ("set_relay", "get_relay"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory):
    made = new_fleet(tmp_path_factory.mktemp("api"), ("set_relay",))
    with Store(made.database) as store:
        setup.add_app(made, store, App("home", ("relay", "meter"), ("set_relay", "get_relay")))
        store.add_device(replace(SEALED, pairs=(*SEALED.pairs, HOME)))
        for number in range(3):
            other = f"M{number}"
            store.add_device(replace(SEALED, device=other, type="meter", pairs=(HOME,)))
        store.add_device(replace(SEALED, device="S1", type="secret", pairs=(HOME,)))
        store.add_event("D1", "home", "temperature", '{"c": 20}')
        store.add_event("D1", "authority", "temperature", '{"c": 21}')
    return made


@pytest.fixture
def caller(fleet, port: int) -> Caller:
    return Caller(port, token_of(fleet, FULL)[1])


def signed(fleet, **changes: Any) -> str:
    claims = {
        "iss": access_token.ISSUER,
        "aud": access_token.AUDIENCE,
        "sub": "home",
        "jti": "0" * 16,
        "exp": int(time.time()) + 60,
        "scope": "api read:relay",
    } | changes
    return access_token.sign(pki.load_key(fleet.keys / app_tokens.KEY), claims)


def test_what_a_token_may_see(caller, fleet, port):
    status, found = caller.get("/token")
    assert (status, found["application"]) == (200, "home")
    assert found["scope"] == ["command:relay:set_relay", "read:relay"]
    status, found = caller.get("/devices")
    assert status == 200 and found["next"] is None
    (row,) = found["devices"]
    assert row.pop("state") in ("offline", "away")  # the authority is about to ask it
    assert row == {"device": "D1", "type": "relay", "commands": ["set_relay"]}
    status, found = caller.get("/devices/D1")
    assert (found["mode"], found["session"], found["commands"]) == ("sealed", False, ["set_relay"])
    status, found = caller.get("/devices/D1/events")  # its own alone
    publisher = {"kind": "device", "id": "D1", "type": "relay", "proven": True}
    assert [(one["body"], one["publisher"]) for one in found["events"]] == [({"c": 20}, publisher)]
    # A device of another type is as one that is not there.
    for path in ("/devices/S1", "/devices/M1", "/devices/nobody", "/devices/M1/events"):
        status, found = caller.get(path)
        assert (status, found["code"]) == (404, "device-unknown")
    both = Caller(port, token_of(fleet, replace(FULL, types=("relay", "meter")))[1])
    names = []
    after = ""
    while after is not None:
        _, page = both.get(f"/devices?limit=2{after and '&after=' + after}")
        names += [one["device"] for one in page["devices"]]
        after = page["next"]
    assert names == ["D1", "M0", "M1", "M2"]


def test_older_events_come_in_pages(fleet, port):
    """Each of the application's own once, also where those of others lie between."""
    token = Caller(port, token_of(fleet, replace(FULL, types=("meter",)))[1])
    with Store(fleet.database) as store:
        for number in range(7):
            store.add_event("M2", "home", "temperature", json.dumps({"c": number}))
            store.add_event("M2", "authority", "temperature", json.dumps({"c": -1}))
    pages, query = [], ""
    while len(pages) < 9:
        status, page = token.get(f"/devices/M2/events?limit=3{query}")
        assert status == 200
        pages.insert(0, [one["body"]["c"] for one in page["events"]])
        if page["next"] is None:
            break
        query = f"&before={page['next']}"
    assert pages == [[0], [1, 2, 3], [4, 5, 6]]
    assert token.get("/devices/M2/events?before=0")[1] == {"events": [], "next": None}
    for wrong in ("x", "-1", "1.5", "9" * 17):
        status, found = token.get(f"/devices/M2/events?before={wrong}")
        assert (status, found["code"]) == (400, "bad-argument")


def test_a_revoked_device_is_shown_as_revoked(fleet, port, service):
    found = Caller(port, token_of(fleet, replace(FULL, types=("meter",)))[1])
    for end, word in ((False, ("offline", "away")), (True, ("revoked",))):
        if end:
            with Store(fleet.database) as store, store.transaction():
                store.order_ending("M1", True, False, time.time())
            service.authority.ask(lambda engine: engine.apply_ending("M1"))
        states = {one["device"]: one["state"] for one in found.get("/devices")[1]["devices"]}
        assert states["M1"] in word and states["M0"] in ("offline", "away")
        assert found.get("/devices/M1")[1]["state"] in word


def test_what_a_token_may_not_do(caller, fleet, port):
    status, found = caller.command("D1", "get_relay")  # the application may, the token not
    assert (status, found["code"]) == (403, "token-scope")
    for command in ("warden_unlock", "update", "rotate", "wipe"):
        assert caller.command("D1", command)[1]["code"] == "token-scope"
    for device in ("S1", "M1", "nobody"):
        status, found = caller.command(device, "set_relay")
        assert (status, found["code"]) == (404, "device-unknown")
    commands_alone = Caller(port, token_of(fleet, replace(FULL, read=False))[1])
    assert commands_alone.get("/devices")[0] == 200
    assert commands_alone.get("/devices/D1/events")[1]["code"] == "token-scope"
    status, found = caller.command("D1", "set_relay", timeout=0.1)
    assert (status, found["code"]) == (409, "no-session")
    with Store(fleet.database) as store:
        rows = [(row.who, row.action) for row in store.latest_audit_rows(20)]
    assert any(
        who.startswith("home token ") and "send device=D1 command=set_relay" in action
        for who, action in rows
    )


def are_shown(news: list[FleetEvent], codes: set[str]) -> bool:
    """Return whether refusals with these codes come on the screen, which has its own thread."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        shown = {one.code for one in news if one.text == "refused someone at 127.0.0.1"}
        if codes <= shown:
            return True
        time.sleep(0.01)
    return False


def test_tokens_that_are_none(fleet, port, caller, news):
    id_, text = token_of(fleet, FULL)
    _, for_broker = token_of(fleet, replace(FULL, api=False, origins=()))
    used = Caller(port, text)
    assert used.get("/token")[0] == 200
    cases = {
        "": "token-missing",
        "x" * 9000: "token-invalid",
        text[:-4] + "AAAA": "token-invalid",
        signed(fleet, exp=int(time.time()) - 5): "token-expired",
        signed(fleet): "token-revoked",  # well signed, and not listed
        for_broker: "token-scope",
    }
    for one, code in cases.items():
        status, found = Caller(port, one).get("/token")
        assert (status, found["code"]) == (403 if code == "token-scope" else 401, code)
        assert (one or "?") not in json.dumps(found)
    assert Caller(port).get("/token", Authorization="Basic " + text)[1]["code"] == "token-missing"
    with Store(fleet.database) as store:
        app_tokens.revoke(fleet, store, id_)
        assert any(
            row.who == "someone at 127.0.0.1" and row.outcome == "token-invalid"
            for row in store.latest_audit_rows(20)
        )
    status, found = used.get("/token")  # though its signature is known by now
    assert (status, found["code"]) == (401, "token-revoked")
    assert "Bearer" in used.headers["www-authenticate"]
    assert are_shown(news, {"token-invalid", "token-expired", "token-revoked"})
    assert not [one for one in news if one.code == "role-missing"]
    # What comes in another way is no token.
    assert Caller(port).get(f"/token?token={text}", Cookie=f"warden={text}")[0] == 401


class Sockets:
    """Stand for AuditedSockets: note what is refused."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def refuse(self, who: str, action: str, code: str, counted: str) -> None:
        self.refused.append(f"{who} {action} {code}")

    def handle_session(self, *_: object) -> None:
        """Leave the call open, as a device that gives no answer does."""


@pytest.fixture
def api(fleet):
    """Return a caller of WebApi without a network, its clock and what it refused."""
    now, sockets = [0.0], Sockets()
    with Store(fleet.database) as store:
        engine = SimpleNamespace(
            store=store, state=lambda device: SimpleNamespace(device=store.device(device))
        )
        bans, told = Bans(), list[FleetEvent]()
        made = web_api.WebApi(
            *(fleet, sockets, lambda ask: ask(engine), EventFeed(), dict),
            WrongLogins(bans, told.append),  # type: ignore[arg-type]
            lambda: now[0],
        )

        def ask(token: str, address: str = "192.0.2.1", op: str = "token", **fields: Any) -> Any:
            caller = control.Caller()
            line = {"op": f"api-{op}", "bearer": token, "address": address}
            made.handle(line | fields, caller)
            return caller if op == "command" else caller.next_line(0)

        ask.bans, ask.told, ask.sockets = bans, told, sockets  # type: ignore[attr-defined]
        ask.made = made  # type: ignore[attr-defined]
        yield ask, now, sockets.refused


def test_wrong_tokens_are_counted(fleet, api):
    ask, now, noted = api
    known, new = (token_of(fleet, FULL)[1] for _ in range(2))
    assert ask(known)["application"] == "home"
    for number in range(100):
        with refused("token-invalid"):
            ask(f"wrong{number}")
    assert noted == ["someone at 192.0.2.1 api-token token-invalid"] * 100
    for token in ("wrong", new):
        with refused("rate-limited"):
            ask(token)
    assert len(noted) == 100
    assert ask(known)["application"] == "home"  # one that was verified goes on
    assert ask(new, "192.0.2.2")["application"] == "home"
    now[0] += 1
    with refused("token-invalid"):
        ask("wrong")


def test_a_wrong_token_ends_as_a_wrong_log_in(fleet, api):
    ask, _, _ = api
    page = token_of(fleet, FULL)[1]
    id_, program = token_of(fleet, replace(FULL, origins=()))
    ended = signed(fleet, exp=int(time.time()) - 5)
    other = access_token.sign(pki.new_key(), {"sub": "home"})
    for text, code in (
        ("x", "token-invalid"),
        ("\ud800", "token-invalid"),
        (other, "token-invalid"),
        (signed(fleet), "token-revoked"),
        (ended, "token-expired"),
    ):
        with refused(code):
            ask(text)
    ask(page)
    ask(program, "::ffff:192.0.2.3")
    told = [(one.kind.value, one.address, one.client) for one in ask.bans.attempts]
    assert told == [
        *[("refused", "192.0.2.1", "console")] * 4,
        ("logged-in", "192.0.2.3", f"t:home:{id_}"),  # not of a page, which anyone may have
    ]
    assert [one.text for one in ask.told] == ["from 192.0.2.1, at the API"] * 4
    ask.bans.out.add("192.0.2.1")
    with refused("address-refused"):
        ask(page)
    assert len(ask.bans.attempts) == 5
    with refused("device-unknown"):
        ask(program, "192.0.2.3", "device", device="\ud800")


def test_commands_without_an_answer_leave_calls_for_others(fleet, api):
    ask, now, _ = api
    tokens = [token_of(fleet, FULL)[1] for _ in range(4)]
    asked = {"op": "command", "device": "D1", "command": "set_relay", "timeout": 30}
    calls = [ask(tokens[0], **asked) for _ in range(web_api_streams.COMMANDS_OF_A_TOKEN)]
    with refused("rate-limited"):
        ask(tokens[0], **asked)
    assert ask(tokens[0])["application"] == "home"
    now[0] += 60
    with refused("rate-limited"):
        for number in range(web_api_streams.COMMANDS):
            calls.append(ask(tokens[1 + number % 3], **asked))
    assert len(calls) == web_api_streams.COMMANDS
    assert web_api_streams.COMMANDS + web_api_streams.MOST < MOST_CALLS
    calls[0].gone.set()
    ask(tokens[3], **asked)


def test_strangers_origins_are_looked_up_within_a_rate(fleet, monkeypatch):
    now, asked = [0.0], []
    with Store(fleet.database) as store:
        engine = SimpleNamespace(store=store)

        def ask(question: Any) -> Any:
            asked.append(1)
            return question(engine)

        wrong: Any = None
        made = web_api.WebApi(fleet, Sockets(), ask, EventFeed(), dict, wrong, lambda: now[0])

        def allowed(origin: str) -> bool:
            caller = control.Caller()
            made.handle({"op": "api-origin", "origin": origin}, caller)
            return bool(caller.next_line(0)["allowed"])

        new = "https://new.example"
        assert not any(allowed(each) for each in ("https://evil.example", new) * 50)
        assert len(asked) == 20
        token_of(fleet, replace(FULL, origins=(new,)))
        now[0] = 0.5
        assert allowed(new)


def test_a_token_that_is_known_ends(fleet, api, monkeypatch):
    ask, _, _ = api
    text = token_of(fleet, FULL)[1]
    assert ask(text)["application"] == "home"
    later = time.time() + 10 * 365 * 86400
    monkeypatch.setattr(web_api.time, "time", lambda: later)
    with refused("token-expired"):
        ask(text)


def test_requests_of_another_form(fleet, api):
    ask, _, _ = api
    text = token_of(fleet, FULL)[1]
    with refused("control-malformed"):
        ask(text, op="nothing")
    for before in (-1, 1.5, True, "1", None, (1 << 53) + 1):
        with refused("bad-argument"):
            ask(text, op="events", device="D1", before=before)


def test_tokens_that_are_remembered_are_bounded(fleet, api, monkeypatch):
    ask, _, _ = api
    monkeypatch.setattr(web_api, "_MOST_KNOWN", 2)
    for _ in range(4):
        ask(token_of(fleet, FULL)[1])
    assert len(ask.made._known) == 2


def test_a_token_is_used_within_its_rate(fleet, api):
    ask, now, _ = api
    first, second = (token_of(fleet, FULL)[1] for _ in range(2))
    for _ in range(60):
        ask(first)
    with refused("rate-limited"):
        ask(first)
    assert ask(second)["application"] == "home"
    now[0] += 0.1
    assert ask(first)["application"] == "home"


@pytest.mark.parametrize("op", ["nothing", "", "origins"])
def test_an_operation_that_there_is_not(fleet, api, op):
    ask, _, noted = api
    with refused("control-malformed"):
        ask(token_of(fleet, FULL)[1], op=op)
    assert noted == []


@pytest.mark.parametrize("before", [-1, (1 << 53) + 1, True, 1.0, "1", None])
def test_places_in_the_events_that_are_none(fleet, api, before):
    ask, _, _ = api
    with refused("bad-argument"):
        ask(token_of(fleet, FULL)[1], op="events", device="D1", before=before)


def test_a_token_that_is_known_ends_at_its_time(fleet, api, monkeypatch):
    ask, _, _ = api
    text = token_of(fleet, FULL)[1]
    end = ask(text)["expires"]
    monkeypatch.setattr(web_api, "time", SimpleNamespace(time=lambda: end - 0.5))
    assert ask(text)["application"] == "home"
    monkeypatch.setattr(web_api, "time", SimpleNamespace(time=lambda: float(end)))
    with refused("token-expired"):
        ask(text)


def test_the_tokens_that_are_known_are_bounded(fleet, api, monkeypatch):
    monkeypatch.setattr(web_api, "_MOST_KNOWN", 2)
    ask, _, _ = api
    for _ in range(4):
        assert ask(token_of(fleet, FULL)[1])["application"] == "home"
    assert len(ask.made._known) == 2


def test_no_stream_begins_under_a_token_that_was_revoked_meanwhile(fleet, api):
    """What ends streams looks at tokens that were revoked since they began."""
    ask, _, _ = api
    id_, text = token_of(fleet, FULL)
    claims = access_token.verify(app_tokens.verifying_key(fleet), text)
    with Store(fleet.database) as store:
        app_tokens.revoke(fleet, store, id_)
    caller = control.Caller()
    with refused("token-revoked"):
        ask.made._watch({}, caller, claims)
    assert caller.ends_with is None


def test_what_ends_a_stream_is_known_without_the_authority(fleet):
    now = [1.0]
    with Store(fleet.database) as store:
        id_, text = token_of(fleet, FULL)
        parts: Any = (pytest.fail, EventFeed(), dict, None, lambda: now[0])
        made = web_api.WebApi(fleet, Sockets(), *parts)  # type: ignore[arg-type]
        claims = access_token.verify(app_tokens.verifying_key(fleet), text)
        assert not made.is_over(claims, 1.0)  # nothing was noted yet
        made.note_tokens([], 0.5)
        assert not made.is_over(claims, 1.0)  # what was noted is older than the stream
        made.note_tokens(store.tokens(), 2.0)
        assert not made.is_over(claims, 1.0)
        assert made.is_over(replace(claims, end=0), 1.0)
        app_tokens.revoke(fleet, store, id_)
        assert not made.is_over(claims, 1.0)
        made.note_tokens(store.tokens(), 3.0)
        assert made.is_over(claims, 1.0)


def test_web_pages_of_listed_origins_alone(caller, fleet, port):
    asked = {"Access_Control_Request_Method": "GET"}
    other = Caller(port, token_of(fleet, replace(FULL, origins=(OTHER,)))[1])
    for origin in (ORIGIN, OTHER):
        assert (
            caller.ask("OPTIONS", "/devices", Origin=origin, Authorization="", **asked)[0] == 204
        )
        assert caller.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in caller.headers
    # Before any token is looked at, and so also for a preflight.
    for origin in ("https://evil.example", "null", "*", ORIGIN + ".evil.example", ORIGIN + ":1"):
        for method in ("OPTIONS", "GET"):
            status, found = caller.ask(method, "/devices", Origin=origin)
            assert (status, found["code"]) == (403, "origin-refused")
            assert "access-control-allow-origin" not in caller.headers
    assert (
        caller.get("/devices", Origin=ORIGIN)[0] == other.get("/devices", Origin=OTHER)[0] == 200
    )
    # An origin of another token: the page is told why.
    for one, origin in ((caller, OTHER), (other, ORIGIN)):
        status, found = one.get("/devices", Origin=origin)
        assert (status, found["code"]) == (403, "origin-refused")
        assert one.headers["access-control-allow-origin"] == origin
    assert caller.get("/devices", Host="evil.example")[0] == 421
    twice = f"Host: 127.0.0.1:{port}\r\nOrigin: {ORIGIN}\r\nOrigin: {OTHER}"
    assert upgrade(port, *twice.split("\r\n"), upgrading=False) == 403


@pytest.mark.parametrize(
    ("body", "changes", "status", "code"),
    [
        ("[" * 5000, {}, 400, "bad-json"),
        ('{"command": "set_relay", "args": ' + '{"a":' * 14 + "1" + "}" * 15, {}, 400, "bad-json"),
        ('{"command": "set_relay", "command": "x"}', {}, 400, "bad-json"),
        ('{"command": "set_relay", "args": {"a": NaN}}', {}, 400, "bad-json"),
        ('{"command": "set_relay", "app": "authority"}', {}, 400, "bad-argument"),
        ('{"command": "set_relay", "forge": "replay"}', {}, 400, "bad-argument"),
        ('{"command": "set_relay", "op": "rotate"}', {}, 400, "bad-argument"),
        ('{"command": "set_relay", "timeout": 31}', {}, 400, "bad-argument"),
        ('{"command": "set_relay", "ttl": 1.5}', {}, 400, "control-malformed"),
        ('{"command": "set_relay", "args": [1]}', {}, 400, "control-malformed"),
        ('{"command": "no verb"}', {}, 400, "bad-name"),
        ("x" * 20000, {}, 413, "body-too-large"),
        ("{}", {"Content_Type": "text/plain"}, 415, "type-refused"),
        ("0\r\n\r\n", {"Transfer_Encoding": "chunked"}, 411, "length-missing"),
    ],
)
def test_bodies_that_are_refused(caller, body, changes, status, code):
    found = caller.ask("POST", "/devices/D1/commands", body, **changes)
    assert (found[0], found[1]["code"]) == (status, code)
    assert caller.headers["content-type"] == "application/problem+json"


def test_other_paths_and_methods(caller):
    for path, status in (
        ("/nothing", 404),
        ("/devices/", 404),
        ("/events", 426),
        ("/devices?limit=x", 400),
    ):
        assert caller.get(path)[0] == status
    found = caller.get("/devices?limit=0")[1]
    assert (found["code"], "--help" in found["detail"]) == ("bad-argument", False)
    for method in ("PUT", "DELETE", "PATCH"):
        status, _ = caller.ask(method, "/token", "{}")
        assert status == 405 and "GET" in caller.headers["allow"]
    assert caller.get("/openapi.json", Authorization="")[1]["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        (("Host: 127.0.0.1:{0}",), "/api/v1/events", 101),
        (("Host: evil.example",), "/api/v1/events", 403),
        ((), "/api/v1/events", 400),
        (("Host: 127.0.0.1:{0}", "Host: 127.0.0.1:{0}"), "/api/v1/events", 400),
        (("Host: 127.0.0.1:{0}", "Origin: https://evil.example"), "/api/v1/events", 403),
        (("Host: 127.0.0.1:{0}", "Origin: http://127.0.0.1:{0}"), "/api/v1/events", 403),
        (("Host: 127.0.0.1:{0}", f"Origin: {ORIGIN}"), "/api/v1/events", 101),
        (("Host: 127.0.0.1:{0}", f"Origin: {ORIGIN}", f"Origin: {ORIGIN}"), "/api/v1/events", 400),
        (("Host: 127.0.0.1:{0}",), "/live", 403),
        (("Host: 127.0.0.1:{0}",), "/api/v1/token", 403),
    ],
)
def test_where_a_websocket_may_come_from(caller, port, headers, path, status):
    assert caller.get("/token")[0] == 200  # there is a token that names ORIGIN
    assert upgrade(port, *(one.format(port) for one in headers), path=path) == status


def test_streams_that_are_refused(fleet, port, caller):
    for first, status in (
        ("x", 1008),
        ("[" * 5000, 1008),
        (json.dumps({"kind": "command", "id": 1}), 1008),
        (json.dumps({"kind": "token", "token": 7}), 1008),
        (json.dumps({"kind": "token", "token": "x"}), 4403),
        (b"x", 1008),
        ("x" * 20000, 1009),
    ):
        with Stream(port) as stream:
            stream.socket.send(first)
            assert stream.ends() == status
    with caller.stream(origin=ORIGIN) as stream:
        assert stream.next()["kind"] == "ready"
    other = Caller(port, token_of(fleet, replace(FULL, origins=(OTHER,)))[1])
    with other.stream(origin=ORIGIN) as stream:
        assert stream.next()["problem"]["code"] == "origin-refused"
        assert stream.ends() == 4403
    for sent in ({"kind": "x", "id": 1}, {"kind": "command"}, {"kind": "command", "id": [1]}):
        with caller.stream() as stream:
            stream.next(kind="ready")
            stream.send(**sent)
            assert stream.ends() == 1008


def test_commands_of_a_stream(caller):
    with caller.stream() as stream:
        stream.next(kind="ready")
        for number, device, command, code in (
            (1, "S1", "set_relay", "device-unknown"),
            ("two", "D1", "get_relay", "token-scope"),
            (3, "D1", "warden_unlock", "token-scope"),
            (4, 7, "set_relay", "control-malformed"),
        ):
            stream.send(kind="command", id=number, device=device, command=command)
            answer = stream.next(kind="answer")
            assert (answer["id"], answer["problem"]["code"]) == (number, code)


def test_one_token_has_some_streams_and_they_end_with_it(fleet, port, service):
    id_, text = token_of(fleet, FULL)
    caller = Caller(port, text)
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(caller.stream()) for _ in range(web_api_streams.MOST_OF_A_TOKEN)
        ]
        for stream in streams:
            stream.next(kind="ready")
        with caller.stream() as one_more:
            assert one_more.next()["problem"]["code"] == "rate-limited"
        with Store(fleet.database) as store:
            app_tokens.revoke(fleet, store, id_)
        service.console._looked_at_tokens = float("-inf")
        service.check()
        assert {stream.ends() for stream in streams} == {4401}


CLAIMS = Claims("home", "1", 0, frozenset(["read:relay", "command:relay:set_relay"]))


def told(types: Any = None, claims: Claims = CLAIMS, **fields: Any) -> Any:
    made = FleetEvent("event", "D1", "home", "temperature", proof="session")
    data = jsontext.dump(replace(made, **fields).record()).encode()
    types = {"D1": "relay", "M1": "meter"} if types is None else types
    found = shown(Entry(1, 1, fields.get("device", "D1"), data), types, claims)
    return json.loads(found) if found else None


def test_what_a_stream_is_told():
    assert told()["publisher"]["proven"] is True
    assert told(proof="account")["publisher"]["proven"] is False
    assert told(proof="")["publisher"]["proven"] is False
    for change in ({"app": "authority"}, {"app": "other"}, {"device": "M1"}, {"device": ""}):
        assert told(**change) is None
    assert told(types={}) is None
    for kind in ("incident", "refused", "otp", "login", "notice", "reaction", "development"):
        assert told(kind=kind) is None
    publisher = {"kind": "application", "id": "home", "type": "", "proven": True}
    assert told(kind="command")["publisher"] == publisher
    assert told(kind="command", text="forgery: replay") is None
    assert told(kind="left")["state"] == "offline"
    assert told(kind="session", app="other") is None
    commands_alone = Claims("home", "1", 0, frozenset(["command:relay:set_relay"]))
    assert told(claims=commands_alone) is None
    assert told(claims=commands_alone, kind="left") is not None


def test_nobody_can_name_another_publisher(tmp_path):
    """What a device sends stands in the body alone, and opens for that device alone."""
    device = replace(SEALED, pairs=(HOME,))
    other = Pair("home", b"o" * 32, b"O" * 32, ())
    stage = Stage(tmp_path, device)
    stage.store.add_device(replace(SEALED, device="D2", pairs=(other,)))
    good, bad = (
        PeerDevice(key, policy.policy_hash(SEALED.policy), "home", name)
        for key, name in ((HOME.k, "D1"), (other.k, "D2"))
    )
    for peer in (good, bad):
        send = lambda verb, data, peer=peer: stage.engine.on_message(  # noqa: E731
            "home", peer.topic("evt", verb), data, False
        )
        send("hello", peer.hello())
        peer.take_welcome(stage.last("welcome"))
        send("ready", peer.ready())
    lie = {"publisher": {"id": "D1", "proven": True}, "device": "D1", "type": "x", "proof": "x"}
    stage.engine.on_message(
        "home", bad.topic("evt", "lie"), bad.seal("lie", [0, None, lie]), False
    )
    shown = message(stage.news[-1].record(), "relay", CLAIMS)
    assert (shown["device"], shown["publisher"]["id"], shown["body"]) == ("D2", "D2", lie)
    # The other one's message on this one's topic, sealed for either.
    for peer in (bad, good):
        before = len(stage.news)
        topic = {"D1": bad, "D2": good}[peer.device].topic("evt", "t")
        stage.engine.on_message("home", topic, peer.seal("t", [0, None, {}]), False)
        assert all(one.kind != "event" for one in stage.news[before:])


def test_a_plain_device_proves_its_account_alone(tmp_path):
    stage = Stage(tmp_path, PLAIN)
    body = {"event": "temperature", "deviceId": "D1", "body": {"c": 1}}
    stage.receive("temperature", json.dumps(body).encode(), fmt="json")
    (event,) = [one for one in stage.news if one.kind == "event"]
    assert (event.app, event.proof) == ("authority", "account")
    publisher = {"kind": "device", "id": "D1", "type": "relay", "proven": False}
    assert (
        message(event.record(), "relay", CLAIMS)["publisher"] == publisher
    )  # of all applications


def test_scopes_of_the_api(fleet):
    with Store(fleet.database) as store:
        for origin in (
            *("https://app.example/", "https://App.example", "http://app.example", "null", "*"),
            *("https://a b", "https://", "https://user@app.example", "https://app.example:0"),
        ):
            with refused("bad-argument"):
                app_tokens.issue(fleet, store, "home", replace(FULL, origins=(origin,)), 1)
        many = tuple(f"https://a{n}.example" for n in range(9))
        for change in ({"api": False}, {"origins": many}):
            with refused("bad-argument"):
                app_tokens.issue(fleet, store, "home", replace(FULL, **change), 1)
        with refused("bad-argument"):
            app_tokens.issue(fleet, store, "home", FULL, 1, for_rabbitmq=True)
        made, _ = app_tokens.issue(fleet, store, "home", FULL, 1)
        assert app_tokens.is_within(made, store.app("home"))
        assert not app_tokens.is_within(made, replace(store.app("home"), commands=()))


def test_all_tokens_have_some_streams():
    streams = web_api_streams.OpenCalls("streams", 8, 1)
    first = control.Caller()
    streams.add(first, CLAIMS)
    with refused("rate-limited"):
        streams.add(control.Caller(), replace(CLAIMS, id="2"))
    first.gone.set()
    streams.add(control.Caller(), replace(CLAIMS, id="2"))
