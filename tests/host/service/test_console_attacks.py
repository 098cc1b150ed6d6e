"""Attacks on the console, byte by byte: smuggled requests, other hosts and origins, theft."""

import json
import re
import socket

import pytest
from host_kit import new_fleet
from process_kit import PATIENCE_S
from warden_host.cli import main
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from warden_host.web.guard import form_token
from web_kit import HASH, SECRET, Browser, let_in


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory):
    made = new_fleet(tmp_path_factory.mktemp("attacks"))
    with Store(made.database) as store:
        for name in ("alice", "bob"):
            store.put_operator(Operator(name, None, "", ("command",)))
            store.put_web_login(WebLogin(name, HASH, SECRET))
    return made


@pytest.fixture(scope="module")
def alice(fleet, port: int) -> Browser:
    made = Browser(port)
    let_in(fleet, made, "alice")
    return made


def raw(browser: Browser, data: bytes) -> list[int]:
    """Return the status of each answer to some bytes, until the connection ends."""
    with socket.create_connection(("127.0.0.1", browser.port), PATIENCE_S) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answer, re.MULTILINE)]


def request(browser: Browser, *more: bytes, line: bytes = b"POST /logout HTTP/1.1") -> bytes:
    """Return the head of a request that the console would carry out."""
    host = b"127.0.0.1:%d" % browser.port
    fields = [b"Host: " + host, b"Origin: http://" + host, *more]
    fields += [b"Cookie: warden=" + browser.cookie.encode(), b"Connection: close"]
    return b"\r\n".join([line, *fields, b"", b""])


def test_the_request_is_one_that_would_be_carried_out(fleet, service):
    browser = Browser(service.console.port)
    let_in(fleet, browser, "bob")
    body = b"token=" + browser.token().encode()
    assert raw(browser, request(browser, b"Content-Length: %d" % len(body)) + body) == [303]
    assert browser.get("/")[0] == 303


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"Content-Length: {n}", b"Content-Length: 0"], 400),
        ([b"Content-Length: {n}, 0"], 400),
        ([b"Content-Length: +{n}"], 400),
        ([b"Content-Length: {n}", b"Transfer-Encoding: chunked"], 411),
        ([b"Transfer-Encoding: chunked"], 411),
        ([b"Transfer-Encoding: xchunked"], 400),
        ([b"Transfer-Encoding:\r\n chunked"], 411),
        ([b"Transfer-Encoding : chunked"], 400),
        ([b"Content-Length: {n}", b" X: folded"], 400),
        ([b"Content-Length: {n}", b"X: a\x00b"], 400),
        ([b"Content-Length: {n}", b"X\xff: a"], 400),
        ([b"Content-Length: {n}", b"Host: 127.0.0.1"], 400),
        ([b"Content-Length: {n}", b"Origin: http://evil.example"], 403),
    ],
)
def test_a_request_of_two_meanings_is_carried_out_by_none(alice, fields, status):
    body = b"token=" + alice.token().encode()
    sent = [field.replace(b"{n}", b"%d" % len(body)) for field in fields]
    found = raw(alice, request(alice, *sent) + body)
    assert found == [status]
    assert alice.get("/")[0] == 200


def test_no_request_hides_in_the_body_of_another(alice):
    """The body of a GET is a body, and nothing of what follows a refused request is read."""
    hidden = request(alice, b"Content-Length: 0", line=b"POST /account/sessions/end HTTP/1.1")
    outer = request(alice, b"Content-Length: %d" % len(hidden), line=b"GET /login HTTP/1.1")
    assert raw(alice, outer + hidden) == [200]
    outer = request(alice, b"Transfer-Encoding: chunked").replace(b"Connection: close\r\n", b"")
    assert raw(alice, outer + b"0\r\n\r\n" + hidden) == [411]
    assert alice.get("/")[0] == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET http://evil.example/ HTTP/1.1", 404),
        (b"GET //evil.example/ HTTP/1.1", 404),
        (b"GET /\\evil.example HTTP/1.1", 404),
        (b"GET /login/ HTTP/1.1", 307),
        (b"GET //login/ HTTP/1.1", 404),
        (b"GET /static/%2e%2e/app.py HTTP/1.1", 404),
        (b"GET /static/..%2fapp.py HTTP/1.1", 404),
        (b"GET /static/%00 HTTP/1.1", 404),
        (b"CONNECT evil.example:443 HTTP/1.1", 405),
        (b"TRACE / HTTP/1.1", 405),
        (b"OPTIONS * HTTP/1.1", 405),
        (b"PRI * HTTP/2.0", 405),
        (b"GET /", 400),
        (b"GET / HTTP/1.1 HTTP/1.1", 400),
    ],
)
def test_no_line_leads_elsewhere(alice, line, status):
    host = b"127.0.0.1:%d" % alice.port
    sent = b"%b\r\nHost: %b\r\nConnection: close\r\n\r\n" % (line, host)
    with socket.create_connection(("127.0.0.1", alice.port), PATIENCE_S) as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert int(answer.split()[1]) == status
    for place in re.findall(rb"^location: (.*)\r$", answer, re.MULTILINE):
        assert place.startswith((b"/l", b"http://" + host + b"/l"))


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),  # a link; the session's cookie is not with it
        ("same-site", "no-cors", 403),  # another port of this very host
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
    ],
)
def test_pages_of_elsewhere_load_nothing_of_it(alice, site, mode, status):
    assert alice.ask("GET", "/", Sec_Fetch_Site=site, Sec_Fetch_Mode=mode)[0] == status


def test_a_session_is_none_that_a_stranger_chose(fleet, service):
    """Fixation: what was in the browser before the log-in is no session after it, and ends."""
    browser = Browser(service.console.port)
    browser.cookie = "chosen-by-a-stranger"
    let_in(fleet, browser, "alice")
    first = browser.cookie
    assert first != "chosen-by-a-stranger" and len(first) >= 43
    thief = Browser(browser.port)
    thief.cookie = "chosen-by-a-stranger"
    assert thief.get("/")[0] == 303
    let_in(fleet, browser, "alice")
    thief.cookie = first  # the session before the new log-in
    assert thief.get("/")[0] == 303
    assert browser.get("/")[0] == 200


def test_forms_of_a_script_belong_to_a_session_too(alice):
    for token in ("", "0" * 64, "\u00e9"):
        body = json.dumps({"token": token, "label": "x", "credential": {}})
        for path in ("ask", "register"):
            assert alice.ask("POST", f"/account/passkey/{path}", body)[0] == 403
    for body in ("", "[]", "{", '{"a":' * 20 + "1" + "}" * 20, "1" * 5000, '{"token": "\\ud800"}'):
        assert alice.ask("POST", "/account/passkey/ask", body)[0] == 400
        assert alice.ask("POST", "/passkey/login", body)[0] == 400
    stranger = Browser(alice.port)
    assert stranger.ask("POST", "/account/passkey/ask", "{}")[0] == 401
    assert stranger.post("/account/sessions/end", id="")[0] == 303
    assert stranger.get("/account")[0] == 303


def test_a_number_of_any_length_is_no_error_of_the_console(alice):
    for path in ("", "/live"):
        assert alice.get(f"/rollout/{'9' * 5000}{path}")[0] == 404


def test_a_stranger_keeps_no_verdict(alice):
    """The place for verdicts is bounded: strangers would push out those of operators."""
    stranger = Browser(alice.port)
    stranger.cookie = "of-nobody"
    path = "/device/front-door/command"
    assert stranger.post(path, token=form_token("of-nobody"), args="{")[0] == 303
    assert stranger.headers["location"] == "/login"
    assert alice.post(path, token=alice.token(), args="{")[0] == 303
    assert alice.headers["location"].startswith("/device/front-door?verdict=")


def test_a_script_without_a_session_learns_nothing(alice):
    stranger = Browser(alice.port)
    answer = json.loads(stranger.ask("POST", "/passkey/ask", "{}")[1])
    assert set(answer["options"]) <= {
        *("challenge", "timeout", "rpId", "allowCredentials", "userVerification", "hints")
    }
    assert answer["options"]["allowCredentials"] == []
    assert stranger.others["warden-bound"]
    texts = set()
    for name in ("alice", "nobody"):
        body = json.dumps({"name": name, "code": "AAAA", "label": "", "credential": None})
        texts.add(stranger.ask("POST", "/passkey/code", body))
    assert len(texts) == 1 and next(iter(texts))[0] == 403


def test_live_pages_end_with_their_roles(fleet, service, alice):
    stream = socket.create_connection(("127.0.0.1", alice.port), PATIENCE_S)
    stream.sendall(request(alice, line=b"GET /live?after=0 HTTP/1.1"))
    reader = stream.makefile("rb")
    assert reader.readline().startswith(b"HTTP/1.1 200")
    add = ["operator", "add", "alice", "--web-only", "--role", "look"]
    assert main.run(["--fleet", str(fleet.root), *add]) == 0
    while reader.readline():  # to its end
        pass
    stream.close()
    status, text = alice.get("/")
    assert status == 200 and "alice (look)" in text
