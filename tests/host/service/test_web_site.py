"""The console's pages without a socket: sessions that ended, forms, verdicts, what is refused."""

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from asgi_kit import ORIGIN, PORT, Answer, AuthorityModel, scope_of, sent_by
from warden_host.errors import HostError
from warden_host.web import acceptor, app, server, site
from warden_host.web.guard import form_token
from warden_host.web.site import Site

SESSION = "of-alice"
TOKEN = form_token(SESSION)
ENDED = HostError("session-ended", "log in again")
WHO = [{"operator": "alice", "roles": ["own"], "forgeries": ["plain", "replay"]}]


@pytest.fixture
def authority() -> AuthorityModel:
    return AuthorityModel(whoami=WHO, meanings=[])


@pytest.fixture
def console(authority, monkeypatch) -> Any:
    monkeypatch.setattr(app, "Authority", lambda _: authority)
    return app.build(None, "fleet", "127.0.0.1", PORT, False)


def get(console: Any, path: str, session: str = SESSION) -> Answer:
    return Answer(console, scope_of("GET", path, ("cookie", f"warden={session}")))


def post(
    console: Any, path: str, body: "bytes | dict[str, str]", session: str = SESSION
) -> Answer:
    data = body if isinstance(body, bytes) else urlencode(body).encode()
    headers = [("origin", ORIGIN), ("content-length", str(len(data)))]
    scope = scope_of("POST", path, *headers, ("cookie", f"warden={session}"))
    return Answer(console, scope, data)


def operations(authority: AuthorityModel) -> list[str]:
    return [one["op"] for one in authority.asked]


@pytest.mark.parametrize("session", ["", SESSION])
def test_without_a_session_there_is_the_log_in_alone(console, authority, session):
    """A script is told so by a status: it would take the page that follows for its answer."""
    for name in ("whoami", "device_page", "watch", "passkey_new", "ban"):
        authority.answers[name] = ENDED
    form = {"token": TOKEN, "network": "203.0.113.7"}
    for found in (get(console, "/", session), post(console, "/bans", form, session)):
        assert (found.status, found.headers["location"]) == (303, "/login")
    script = json.dumps({"token": TOKEN}).encode()
    for found in (
        get(console, "/live", session),
        get(console, "/session", session),
        post(console, "/account/passkey/ask", script, session),
    ):
        assert (found.status, found.text) == (401, "")
    assert bool(authority.asked) == bool(session)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (urlencode({"token": TOKEN, "network": "203.0.113.7"}).encode(), 303),
        (urlencode({"token": form_token("of-bob")}).encode(), 403),
        (b"", 403),
        (f"token={TOKEN}&network=a&network=b".encode(), 400),
        (urlencode({"token": TOKEN} | {f"f{number}": "x" for number in range(12)}).encode(), 400),
        (b"token=%s&network=\xff" % TOKEN.encode(), 400),
    ],
)
def test_a_form_that_is_refused_asks_for_nothing(console, authority, body, status):
    assert post(console, "/bans", body).status == status
    assert operations(authority) == (["ban"] if status == 303 else [])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"token": TOKEN}, 200),
        ({"token": form_token("of-bob")}, 403),
        ({}, 403),
        ([], 400),
        ({"token": TOKEN, "credential": [[[[[[[[1]]]]]]]]}, 400),
    ],
)
def test_a_script_that_is_refused_asks_for_nothing(console, authority, body, status):
    assert post(console, "/account/passkey/ask", json.dumps(body).encode()).status == status
    assert operations(authority) == (["passkey-new"] if status == 200 else [])


def test_a_refusal_of_the_authority_is_told_to_the_script(console, authority):
    authority.answers["passkey_new"] = HostError("login-stale", "log in again", "with a code")
    found = post(console, "/account/passkey/ask", json.dumps({"token": TOKEN}).encode())
    assert (found.status, json.loads(found.text)) == (403, {"error": "log in again: with a code"})


@pytest.mark.parametrize(
    "path",
    [
        *("/?page=x", "/?page=-1", "/?page=10000"),
        *("/log?begin=%3Cb%3E", "/log?begin=" + "x" * 513, "/audit?begin=A"),
        *("/live?after=x", "/live?after=-1", "/live?after=1e3"),
    ],
)
def test_an_address_of_another_form_asks_for_nothing(console, authority, path):
    found = get(console, path)
    assert (found.status, authority.asked) == (400, [])


def test_an_act_that_a_rollout_has_not(console, authority):
    assert post(console, "/rollout/1/eat", {"token": TOKEN}).status == 404
    assert authority.asked == []


def test_a_stream_without_a_line_is_no_page(console, authority):
    authority.answers["watch"] = []
    assert get(console, "/live").status == 503
    authority.answers["watch"] = HostError("role-missing", "not yours")
    assert get(console, "/live").status == 403


def test_a_stream_that_breaks_ends_as_one_that_is_over(console, authority):
    """The page connects again, and is told then."""
    authority.answers["watch"] = [{"mark": 1}, HostError("not-serving", "it ended")]
    scope = scope_of("GET", "/live", ("cookie", f"warden={SESSION}"))
    start, *rest = sent_by(console, scope)
    assert start["status"] == 200
    assert [one.get("body") for one in rest] == [b'data: {"mark": 1}\n\n', b""]


def test_forgeries_end_where_nothing_reaches_the_device(console, authority):
    form = {"token": TOKEN, "app": "home", "command": "set_relay", "args": "{}"}
    for answer, sent in (
        ([{"ok": True}], ["", "plain", "replay"]),
        (HostError("no-session", "it is away"), [""]),
    ):
        authority.answers["send"] = answer
        authority.asked.clear()
        assert post(console, "/device/D1/forgeries", form).status == 303
        assert [one["forge"] for one in authority.asked if one["op"] == "send"] == sent
    authority.answers["whoami"] = [WHO[0] | {"roles": ["command"]}]
    authority.asked.clear()
    assert post(console, "/device/D1/forgeries", form).status == 303
    assert operations(authority) == ["whoami"]


def test_arguments_of_a_stranger_fill_no_place_for_verdicts(console, authority):
    form = {"token": TOKEN, "app": "home", "command": "set_relay", "args": "{"}
    assert post(console, "/device/D1/command", form).headers["location"].startswith("/device/D1?")
    authority.answers["whoami"] = ENDED
    assert post(console, "/device/D1/command", form).headers["location"] == "/login"


def test_the_way_out_ends_the_session_at_the_authority_and_in_the_browser(console, authority):
    found = post(console, "/logout", {"token": TOKEN})
    assert authority.asked == [{"op": "logout", "session": SESSION}]
    cookie = found.headers["set-cookie"].lower()
    assert cookie.startswith('warden=""') and "max-age=0" in cookie


def test_verdicts_are_bounded_and_shown_in_their_session_alone():
    made = Site(AuthorityModel(), "fleet", False, "")
    places = [
        made.lead(SESSION, "/", {"number": number}).headers["location"]
        for number in range(site._MOST_VERDICTS + 1)
    ]

    def verdict(place: str, session: str) -> Any:
        return made.verdict(site.Request(scope_of("GET", place)), session)

    assert verdict(places[-1], SESSION) == {"number": site._MOST_VERDICTS}
    assert verdict(places[-1], "of-bob") is None
    assert verdict(places[0], SESSION) is None
    assert len(made._verdicts) == site._MOST_VERDICTS


def test_a_cookie_beside_the_session_is_cut_where_ours_ends(console, authority):
    form = {"name": "alice", "password": "x", "code": "1"}
    authority.answers["login"] = HostError("login-refused", "no")
    assert post(console, "/login", form, session="x" * 4000).status == 401
    assert authority.asked[0]["before"] == "x" * site._MAX_COOKIE


def test_an_accept_that_fails_ends_nothing(monkeypatch):
    """As where no file is left to open: the next connection is accepted."""
    monkeypatch.setattr(acceptor, "_PAUSE_S", 0)

    async def run() -> int:
        calls, again = [], asyncio.Event()

        async def accept(_: Any) -> Any:
            calls.append(1)
            if len(calls) < 3:
                raise OSError
            again.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", accept)
        made = acceptor.Server(server.settings(app))
        task = asyncio.create_task(made._accept(None))
        waiting = asyncio.create_task(again.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        for one in (task, waiting):
            one.cancel()
        return len(calls)

    assert asyncio.run(run()) == 3
