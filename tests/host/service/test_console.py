"""The console in a browser: a real process, a real broker; log-in, sessions, roles, refusals."""

import http.client
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from host_kit import free_ports, new_fleet, refused
from process_kit import PATIENCE_S
from warden_host.cli import main
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.service import web_sessions
from warden_host.service.console import Console, WebAddress, check_modules, console
from warden_host.service.control import Caller
from warden_host.service.operators import AuditedSockets
from warden_host.service.run import Service, serving
from warden_host.service.web_requests import WebRequests
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from web_kit import HASH, PASSWORD, SECRET, Browser, let_in


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory):
    made = new_fleet(tmp_path_factory.mktemp("console"))
    with Store(made.database) as store:
        for name, role in (("alice", "own"), ("bob", "look"), ("carol", "command")):
            store.put_operator(Operator(name, 4000 + len(name) + ord(name[0]), name, (role,)))
            store.put_web_login(WebLogin(name, HASH, SECRET))
    return made


@pytest.fixture(scope="module")
def service(fleet) -> Iterator[Service]:
    with serving(fleet, web=WebAddress("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def browser(service: Service) -> Browser:
    assert service.console is not None
    return Browser(service.console.port)


@pytest.fixture
def fresh(fleet, service: Service):
    return lambda browser, name: let_in(fleet, browser, name)


def test_no_page_without_a_session(browser):
    for path in ("/", "/log", "/audit", "/device/front-door"):
        status, text = browser.get(path)
        assert (status, browser.headers["location"], text) == (303, "/login", "")
    assert browser.get("/live")[0] == browser.get("/session")[0] == 401
    browser.cookie = "of-nobody"
    assert browser.get("/")[0] == 303
    assert browser.get("/live")[0] == 401


def test_pages_by_role(browser, fresh):
    fresh(browser, "bob")
    status, text = browser.get("/")
    assert status == 200 and "No devices yet" in text and "bob (look)" in text
    assert browser.get("/log")[0] == 200
    assert browser.get("/audit")[0] == 403
    assert browser.get("/device/nobody")[0] == 404
    assert browser.get("/nothing")[0] == 404
    status, text = browser.post("/device/nobody/unlock", token=browser.token())
    assert (status, text) == (303, "")  # to a page that can be loaded again and sends nothing
    address = browser.headers["location"]
    assert address.startswith("/device/nobody?verdict=")
    assert browser.get(address)[0] == 404  # there is no page of it
    fresh(browser, "alice")
    status, text = browser.get("/audit")
    assert status == 200 and "bob console" in text and "role-missing" in text


def test_what_a_browser_is_told(browser, fresh):
    fresh(browser, "alice")
    assert {"httponly", "samesite=strict"} <= set(
        browser.headers["set-cookie"].lower().split("; ")
    )
    browser.get("/")
    assert "script-src 'self'" in browser.headers["content-security-policy"]
    assert "unsafe" not in browser.headers["content-security-policy"]
    assert browser.headers["cache-control"] == "no-store"
    # With no-referrer, Chromium sends the forms of this very page with "Origin: null".
    assert browser.headers["referrer-policy"] == "same-origin"
    assert browser.headers["x-content-type-options"] == "nosniff"
    assert browser.get("/static/live.js")[0] == 200
    assert browser.get("/static/../app.py")[0] == 404
    assert browser.get("/static/%2e%2e/app.py")[0] == 404


@pytest.mark.parametrize(
    ("name", "password", "age"),
    [("alice", "another long phrase", 0), ("mallory", PASSWORD, 0), ("alice", PASSWORD, 3)],
)
def test_a_wrong_log_in(browser, fleet, name, password, age):
    with Store(fleet.database) as store:
        store.put_web_login(WebLogin("alice", HASH, SECRET))
        before = len(list(store.audit_rows()))
    step = int(time.time()) // web_sessions.STEP_S - age
    assert browser.log_in(name, step, password) == 401
    assert browser.cookie == ""
    with Store(fleet.database) as store:
        last = list(store.audit_rows())[before:]
    assert [(row.who, row.action, row.outcome) for row in last] == [
        ("someone at 127.0.0.1", "login", "login-refused")
    ]


def test_a_code_counts_once(browser, fresh):
    fresh(browser, "alice")
    browser.cookie = ""
    now = int(time.time()) // web_sessions.STEP_S
    assert [browser.log_in("alice", step) for step in (now - 1, now)] == [401, 401]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Origin": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Content_Length": "20000"}, 413),
        ({"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_a_request_that_no_page_of_ours_sends(browser, fresh, change, status):
    fresh(browser, "alice")
    body = "0\r\n\r\n" if "Transfer_Encoding" in change else urlencode({"token": browser.token()})
    assert browser.ask("POST", "/logout", body, **change)[0] == status
    assert browser.get("/")[0] == 200  # still logged in


def test_forms_belong_to_a_session(browser, fresh):
    fresh(browser, "carol")
    own = browser.token()
    fresh(browser, "alice")
    assert browser.post("/logout", token=own)[0] == 403
    assert browser.post("/logout")[0] == 403
    assert browser.ask("POST", "/logout", f"token={own}&token={own}")[0] == 400
    assert browser.ask("POST", "/logout", "&".join(f"f{n}=1" for n in range(20)))[0] == 400
    assert browser.ask("PUT", "/logout", "x")[0] == 405
    assert browser.get("/")[0] == 200
    assert browser.post("/logout", token=browser.token())[0] == 303
    assert browser.cookie in ("", '""')


def test_a_session_ends_with_its_operator(browser, fresh, fleet, service):
    fresh(browser, "carol")
    kept = browser.cookie
    stream = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=PATIENCE_S)
    stream.request("GET", "/live", headers={"Cookie": f"warden={kept}"})
    answer = stream.getresponse()
    first = answer.readline()
    assert answer.status == 200 and json.loads(first[6:])["events"] == []
    command = ["--fleet", str(fleet.root), "operator", "login", "carol", "--remove"]
    assert main.run(command) == 0
    assert browser.get("/")[0] == 303
    service.check()
    while answer.readline():  # the stream ends
        pass
    stream.close()


def test_a_page_misses_nothing_before_its_stream_begins(browser, fresh, service):
    fresh(browser, "bob")
    mark = re.search(r'data-mark="([0-9]+)"', browser.get("/")[1])[1]
    service.announce(FleetEvent("notice", text="in between <b>\r\n\u2028"))
    stream = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=PATIENCE_S)
    stream.request("GET", f"/live?after={mark}", headers={"Cookie": f"warden={browser.cookie}"})
    answer = stream.getresponse()
    batch = json.loads(answer.readline()[6:])
    assert (str(batch["after"]), batch["lost"]) == (mark, 0)
    assert "in between <b>\r\n\u2028" in [event.get("text") for event in batch["events"]]
    stream.close()
    for wrong in ("x", "-1", "\u0661", "1" * 17):
        assert browser.get(f"/live?after={quote(wrong)}")[0] == 400
    assert browser.get("/live?device=no/device")[0] == 502


class FakeStore:
    """The operators and log-ins that a test changes; a code may be used again."""

    def __init__(self) -> None:
        self.operators = {"alice": Operator("alice", 1, "alice", ("look",))}
        self.logins = {"alice": WebLogin("alice", HASH, SECRET)}

    def operator(self, name: str) -> Operator | None:
        return self.operators.get(name)

    def web_login(self, name: str) -> WebLogin | None:
        return self.logins.get(name)

    def use_web_step(self, name: str, step: int) -> bool:
        return True


CODE = web_sessions.totp(SECRET, 100).decode()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def sessions(store: FakeStore, clock: list[float]) -> web_sessions.WebSessions:
    engine = type("Engine", (), {"store": store})()
    return web_sessions.WebSessions(lambda ask: ask(engine), lambda: clock[0], lambda: 3000.0)


def test_sessions_end_by_age(sessions, store, clock):
    idle = sessions.log_in("alice", PASSWORD, CODE, "::1")
    used = sessions.log_in("alice", PASSWORD, CODE, "::1")
    while clock[0] <= web_sessions.LIFE_S:
        assert sessions.rights(used)[0].name == "alice"
        if clock[0] <= web_sessions.IDLE_S:  # what an open page asks for by itself is no click
            assert sessions.rights(idle, passive=True)[0].name == "alice"
        else:
            assert sessions.is_over(idle, "alice")
        clock[0] += web_sessions.IDLE_S / 2
    for token in (used, idle, None, 7, ""):
        assert sessions.is_over(token, "alice")
        with refused("session-ended"):
            sessions.rights(token)
    # More than there is room for: the oldest goes.
    login = store.logins["alice"]
    tokens = [sessions._begin(login) for _ in range(web_sessions.MOST + 1)]
    assert sessions.is_over(tokens[0], "alice") and not sessions.is_over(tokens[1], "alice")
    del store.operators["alice"]
    with refused("session-ended"):
        sessions.rights(tokens[1])


@pytest.mark.parametrize(
    "after", [None, WebLogin("alice", "another", SECRET), WebLogin("alice", HASH, bytes(20))]
)
def test_a_session_ends_with_the_log_in_that_it_began_with(sessions, store, after):
    """Also where no message of the change comes, or it came while the log-in was looked at."""
    token = sessions._begin(store.logins["alice"])
    store.logins["alice"] = WebLogin("alice", HASH, SECRET, step=7)
    assert sessions.rights(token)[0].name == "alice"
    store.logins = {"alice": after} if after else {}
    with refused("session-ended"):
        sessions.rights(token)
    assert sessions.is_over(token, "alice")


def test_guesses_at_the_same_moment_are_counted(sessions, monkeypatch):
    def meanwhile(login: WebLogin, password: str) -> bool:
        """Stand for a password's check, in which the next log-in comes."""
        seen.append(password)
        with refused("login-paused"):
            sessions.log_in("alice", f"guess {len(seen)}", CODE, "::1")
        raise HostError("login-paused", "this one ends, too")

    seen: list[str] = []
    monkeypatch.setattr(sessions, "_is_password", meanwhile)
    with refused("login-paused"):
        sessions.log_in("alice", "guess 0", CODE, "::1")
    assert len(seen) == 5


def test_a_right_log_in_counts_for_nothing(sessions, monkeypatch):
    monkeypatch.setattr(sessions, "_is_password", lambda login, password: True)
    for _ in range(30):
        sessions.log_in("alice", PASSWORD, CODE, "::1")


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::7%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("?", "?"),
    ],
)
def test_one_ipv6_network_counts_as_one_address(address, counted):
    assert web_sessions._network(address) == counted


def test_one_operator_takes_a_part_of_the_streams(sessions, store):
    sockets = AuditedSockets(lambda line, caller: None, print)
    sockets.authority = type("Authority", (), {"ask": lambda self, ask: None})()
    requests = WebRequests(sockets, sessions)
    line = {"op": "watch", "session": sessions._begin(store.logins["alice"])}
    callers = [Caller() for _ in range(16)]
    for caller in callers:
        requests.handle(dict(line), caller)
    with refused("not-serving"):
        requests.handle(dict(line), Caller())
    callers[3].gone.set()
    requests.handle(dict(line), Caller())


def test_what_is_missing_and_what_is_taken(fleet, service, monkeypatch):
    (taken,) = free_ports(1)
    with socket.create_server(("127.0.0.1", taken)), refused("web-failed"):
        Console(fleet, WebAddress("127.0.0.1", taken), fleet.root / "web.sock", print)
    elsewhere = WebAddress("192.0.2.1", 0)  # the certificate is for another name
    with refused("bad-argument"), console(fleet, elsewhere, None, None, None, print):
        pass
    monkeypatch.setattr("warden_host.service.console._MODULES", ("argon2", "no_such_module"))
    with refused("web-missing"):
        check_modules()


def test_the_process_is_started_again(browser, service):
    running = service.console
    os.kill(running._process.pid, signal.SIGKILL)
    running._process.wait()
    running._started -= 60
    running.check()
    assert browser.get("/login")[0] == 200


def test_a_name_is_paused_for_the_right_password_too(browser, fleet):
    with Store(fleet.database) as store:
        store.put_operator(Operator("dave", 4, "dave", ("look",)))
        store.put_web_login(WebLogin("dave", HASH, SECRET))
    now = int(time.time()) // web_sessions.STEP_S
    answers = [browser.log_in("dave", now, "a wrong long phrase") for _ in range(6)]
    assert answers == [401] * 5 + [429]
    assert browser.log_in("dave", int(time.time()) // web_sessions.STEP_S) == 429
    with Store(fleet.database) as store:
        assert store.latest_audit_rows(1)[0].outcome == "login-paused"


def test_guessing_is_paused_and_goes_on():
    now = [0.0]
    attempts = web_sessions.Attempts(2, 0.5)
    for _ in range(2):
        assert attempts.allows("alice", now[0])
        attempts.spend("alice", now[0])
    assert not attempts.allows("alice", now[0]) and attempts.allows("bob", now[0])
    now[0] = 2.0
    assert attempts.allows("alice", now[0])
    for number in range(5000):
        attempts.spend(f"{number}", now[0])
    assert len(attempts._left) <= 1024
