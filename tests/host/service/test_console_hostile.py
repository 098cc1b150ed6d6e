"""The console against what is too large, too deep or never read; a clock that jumps."""

import asyncio
import gzip
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser_kit import ROOT
from host_kit import new_fleet, refused
from process_kit import PATIENCE_S
from warden_host.engine.events import FleetEvent
from warden_host.fleet.fleet import Fleet
from warden_host.service import control, web_passwords
from warden_host.service.console import WebAddress
from warden_host.service.login_limits import LoginLimits
from warden_host.service.run import serving
from warden_host.service.web_passwords import PasswordCheck
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from warden_host.web import authority as asking
from warden_host.web import shown
from warden_host.web.authority import Authority
from web_kit import HASH, PASSWORD, SECRET, Browser, let_in

MOST_SCRIPT = 150 * 1024  # bytes, gzipped


def test_the_scripts_are_small():
    plots = ROOT / "build" / "web" / "node_modules" / "uplot" / "dist" / "uPlot.esm.js"
    own = (ROOT / "tools" / "warden_host" / "web" / "static").rglob("*.js")
    files = [*own, *(one for one in (plots,) if one.is_file())]
    assert len(files) > 2
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= MOST_SCRIPT


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    made = new_fleet(tmp_path_factory.mktemp("hostile"))
    with Store(made.database) as store:
        store.put_operator(Operator("alice", 1, "alice", ("own",)))
    return made


@pytest.fixture(scope="module")
def browser(fleet: Fleet, port: int) -> Browser:
    made = Browser(port)
    let_in(fleet, made, "alice")
    return made


@pytest.mark.parametrize(
    "args",
    [
        '{"a":' * 800 + "1" + "}" * 800,
        '{"a":' + "[" * 3000,
        '{"a": "' + "\\u0001" * 2000 + '"}',
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": ' + "9" * 3900 + "}",
        '{"a": 1, "a": 2}',
        "[1]",
        '"\ud800"'.encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
    ids=["deep", "open", "controls", "infinite", "nan", "digits", "twice", "list", "surrogate"],
)
def test_json_of_a_form_is_bounded(browser, args):
    path = "/device/front-door/command"
    status, _ = browser.post(
        path, token=browser.token(), app="", command="set_relay", args=args, forge=""
    )
    assert status == 303  # to a page with the verdict: no such device
    assert browser.get("/")[0] == 200


def test_a_stream_that_nobody_reads_ends_alone(service, browser, monkeypatch):
    """Its events wait in the feed, which is bounded; it is ended, others go on."""
    assert service.console is not None
    monkeypatch.setattr(control, "_SEND_S", 0.5)
    head = f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{browser.port}\r\n"
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.settimeout(PATIENCE_S)
        lazy.connect(("127.0.0.1", browser.port))
        lazy.sendall(f"{head}Cookie: warden={browser.cookie}\r\n\r\n".encode())
        lazy.recv(16)
        ended, end = False, time.monotonic() + PATIENCE_S
        while not ended:
            assert time.monotonic() < end
            for number in range(500):
                service.announce(FleetEvent("event", "D1", id=number, text="x" * 2000))
            with service.console.server._guard:  # others come and go meanwhile
                ended = not any(caller.reader for caller in service.console.server._callers)
            time.sleep(0.05)
    feed = service.console.server.watchers
    assert feed._bytes <= 4 << 20
    assert browser.get("/")[0] == 200


class Answering:
    """A socket that answers each call with the same bytes, as a broken authority would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(self.answer)
        try:
            await writer.drain()
        except ConnectionError:
            return
        writer.close()

    def ask(self, answer: bytes) -> object:
        async def run() -> object:
            self.answer = answer
            server = await asyncio.start_unix_server(self.serve, self.path)
            async with server:
                return await Authority(self.path).call({"op": "show"})

        return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"\n", "control-malformed"),
        (b'{"error": ' + b'{"a":' * 3000 + b"\n", "control-malformed"),
        (b"[]\n", "control-malformed"),
        (b"\xff\n", "control-malformed"),
        (b'{"error": "none"}\n', None),
        (b'{"a": "' + b"x" * (asking._LIMIT + 10) + b'"}\n', "not-serving"),
        (b'{"a": "no end', "control-malformed"),
        (b"", "not-serving"),
    ],
)
def test_an_answer_of_the_authority_is_bounded(tmp_path, answer, code):
    world = Answering(tmp_path / "web.sock")
    if code is None:
        assert world.ask(answer) == {"error": "none"}
        return
    with refused(code):
        world.ask(answer)


def test_an_authority_that_is_gone_or_silent(tmp_path, monkeypatch):
    gone = Authority(tmp_path / "web.sock")
    with refused("not-serving"):
        asyncio.run(gone.call({"op": "show"}))

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # to the end of the call
        writer.close()

    world = Answering(tmp_path / "web.sock")
    monkeypatch.setattr(world, "serve", silent)
    monkeypatch.setattr(asking, "_CALL_S", 0.05)
    with refused("timed-out"):
        world.ask(b"")


def test_an_error_of_the_authority_is_raised(tmp_path):
    with refused("role-missing"):
        Answering(tmp_path / "web.sock").ask(b'{"error": {"code": "role-missing"}}\n')


def test_a_clock_that_jumps_locks_nobody_out(fleet):
    """Codes follow the clock that is shown: a wrong one refuses them, and uses none of them up."""
    true = 1_800_000_000.0
    wall = [true]
    with Store(fleet.database) as store:
        store.put_operator(Operator("bob", 2, "bob", ("look",)))
        store.put_web_login(WebLogin("bob", HASH, SECRET))
        engine = SimpleNamespace(store=store)
        checks = PasswordCheck(
            lambda ask: ask(engine), LoginLimits(time.monotonic), lambda: wall[0]
        )

        def log_in(at: float) -> WebLogin:
            code = web_passwords.totp(SECRET, int(at) // web_passwords.STEP_S).decode()
            return checks.check("bob", PASSWORD, code, "::1", "")

        log_in(true)
        for jump in (86400.0 * 3650, -86400.0 * 30):
            wall[0] = true + jump
            with refused("login-refused"):  # the authenticator shows the code of the true time
                log_in(true + 60)
        wall[0] = true + 60
        assert log_in(true + 60).name == "bob"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "never"), (0, "never"), (-1e300, "?"), (1e300, "?"), (float("nan"), "?")],
)
def test_a_moment_that_no_calendar_has(seconds, text):
    assert shown.moment(seconds) == text


def test_ages_after_a_clock_was_set(monkeypatch):
    monkeypatch.setattr(shown.time, "time", lambda: 1000.0)
    assert shown.ago(5000.0) == "0 s ago"  # the clock was set back
    assert shown.ago(999.0) == "1 s ago"
    assert shown.ago(1e-9) == "17 min ago"


def test_serve_tells_why_the_console_does_not_start(tmp_path):
    """What was started before it ends, and hides nothing."""
    fleet = new_fleet(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = WebAddress("127.0.0.1", taken.getsockname()[1])
        with refused("web-failed"), serving(fleet, web=address):
            pass
