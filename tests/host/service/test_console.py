"""The console in a browser: a real process, a real broker; log-in, sessions, roles, refusals."""

import http.client
import json
import os
import re
import signal
import socket
import time
from urllib.parse import quote, urlencode

import pytest
from host_kit import new_fleet, refused
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_host import control_client
from warden_host.cli import main
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.service import web_passwords, web_sessions
from warden_host.service.console import Console, WebAddress, check_modules, console
from warden_host.service.run import Service
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from web_kit import HASH, PASSWORD, SECRET, Browser, code_now, let_in


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory):
    made = new_fleet(tmp_path_factory.mktemp("console"))
    with Store(made.database) as store:
        for name, role in (("alice", "own"), ("bob", "look"), ("carol", "command")):
            store.put_operator(Operator(name, 4000 + len(name) + ord(name[0]), name, (role,)))
            store.put_web_login(WebLogin(name, HASH, SECRET))
    return made


@pytest.fixture
def browser(port: int) -> Browser:
    return Browser(port)


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
def test_a_wrong_log_in(browser, service, fleet, name, password, age):
    counted = service.tally.counts().logins_refused
    with Store(fleet.database) as store:
        store.put_web_login(WebLogin("alice", HASH, SECRET))
        before = len(list(store.audit_rows()))
    step = int(time.time()) // web_passwords.STEP_S - age
    assert browser.log_in(name, step, password) == 401
    assert browser.cookie == ""
    assert service.tally.counts().logins_refused == counted + 1
    with Store(fleet.database) as store:
        last = list(store.audit_rows())[before:]
    assert [(row.who, row.action, row.outcome) for row in last] == [
        ("someone at 127.0.0.1", "login", "login-refused")
    ]


def test_a_code_counts_once(browser, fresh, fleet):
    fresh(browser, "alice")
    browser.cookie = ""
    with Store(fleet.database) as store:
        used = store.web_login("alice").step
    assert [browser.log_in("alice", step) for step in (used - 1, used)] == [401, 401]


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


def test_who_logged_in_long_ago_logs_in_again_to_change_that(browser, fresh, fleet, service):
    fresh(browser, "bob")
    token = browser.token("/account")
    assert "log in again" not in browser.get("/account")[1]
    for session in service.console.sessions._sessions.values():
        session.began -= web_sessions.FRESH_S + 1
    text = browser.get("/account")[1]
    assert 'href="/login?to=account"' in text
    for change in ("sessions/end", "passkey/"):
        assert f'"/account/{change}' not in text
    status, text = browser.post("/account/sessions/end", token=token, id="")
    assert status == 403 and 'href="/login?to=account"' in text
    assert 'name="to" value="account"' in browser.get("/login?to=account")[1]
    for to, leads in (("account", "/account"), ("//evil.example", "/"), ("", "/")):
        with Store(fleet.database) as store:
            store.put_web_login(WebLogin("bob", HASH, SECRET))
        line = {"name": "bob", "password": PASSWORD, "code": code_now(), "to": to}
        assert browser.post("/login", **line)[0] == 303
        assert browser.headers["location"] == leads


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
    for wrong in (
        "/live?device=no/device",
        "/device/%3Cb%3E",
        "/device/a%20b/history",
        "/group/a_B%20",
    ):
        assert browser.get(wrong)[0] == 400, wrong


def used(service: Service) -> float:
    """Return when the newest session was used, by steady seconds."""
    return max(row[-1] for row in service.console.sessions.export())


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/?unasked=1", {}),
        ("/log?page=1&unasked=1", {}),
        ("/", {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate"}),  # another port
        ("/", {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"}),
        ("/", {"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate", "Sec_Purpose": "prefetch"}),
        ("/session", {}),
    ],
)
def test_what_no_person_asks_for_keeps_no_session(browser, fresh, service, path, headers):
    fresh(browser, "bob")
    browser.get("/")
    before = used(service)
    assert browser.ask("GET", path, **headers)[0] in (200, 204)
    assert used(service) == before
    own = {"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate"}
    assert browser.ask("GET", "/", **own)[0] == 200
    assert used(service) > before


def test_what_is_missing_and_what_is_taken(fleet, service, monkeypatch):
    (taken,) = free_ports(1)
    with socket.create_server(("127.0.0.1", taken)), refused("web-failed"):
        Console(fleet, WebAddress("127.0.0.1", taken), fleet.root / "web.sock", print)
    elsewhere = WebAddress("192.0.2.1", 0)  # the certificate is for another name
    with refused("bad-argument"), console(fleet, elsewhere, *[None] * 5):
        pass
    with refused("bad-argument"):  # without TLS, in reach of others
        WebAddress("localhost", 0, "0.0.0.0")  # noqa: S104
    assert main.run(["--fleet", str(fleet.root), "serve", "--web-listen", "127.0.0.1"]) == 2
    monkeypatch.setattr("warden_host.service.console._MODULES", ("argon2", "no_such_module"))
    with refused("web-missing"):
        check_modules()


def test_the_process_is_started_again(browser, service):
    process = service.console.process
    os.kill(process.pid, signal.SIGKILL)
    process._process.wait()
    process._started -= 60
    service.check()
    end = time.monotonic() + PATIENCE_S
    while process._is_starting and time.monotonic() < end:
        service.check()
        time.sleep(0.01)
    assert browser.get("/login")[0] == 200


def test_a_guesser_at_the_console_is_banned(fleet, service):
    """By the watch that bans at the broker; a browser on this machine is never kept out."""
    path, address = fleet.root / "web.sock", "203.0.113.7"

    def guess(name: str) -> str:
        line = {"op": "login", "name": name, "password": "x", "code": "1", "address": address}
        try:
            control_client.call(path, line)
        except HostError as error:
            return error.code
        return ""

    assert {guess(f"n{number}") for number in range(9)} == {"login-refused"}
    control_client.call(fleet.control, {"op": "bans-apply"})  # what was put in has been judged
    assert guess("alice") == "address-refused"
    assert control_client.call(path, {"op": "admit", "address": address}) == {"admitted": False}
    with Store(fleet.database) as store:
        assert [ban.network for ban in store.bans(time.time())] == [f"{address}/32"]
    assert main.run(["--fleet", str(fleet.root), "bans", "lift", address]) == 0
    assert guess("alice") == "login-refused"
