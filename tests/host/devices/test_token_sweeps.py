"""Tokens of applications are cut off whatever RabbitMQ's HTTP API does, or fails to do."""

import contextlib
import http.server
import threading
import time
from dataclasses import replace

import pytest
import tomli_w
from host_kit import new_fleet, refused
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_client import secretfile
from warden_host.broker.rabbitmq import management
from warden_host.devices import app_changes, app_tokens, setup
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.protocol.access_token import Scope
from warden_host.service import token_sweeper
from warden_host.store.store import App, Store

READ = Scope(("lock",), True, ())
API_PASSWORD = "of the API's user"


def with_api(made, address: str):
    table = {"management": address, "user": "warden"}
    (made.root / CONFIG).write_text(tomli_w.dumps(made.document | {"rabbitmq": table}))
    secretfile.write(made.keys / management.PASSWORD, API_PASSWORD.encode())
    return Fleet(made.root)


@pytest.fixture
def fleet(tmp_path):
    """With an API that does not answer."""
    (port,) = free_ports(1)
    return with_api(new_fleet(tmp_path), f"http://127.0.0.1:{port}")


@pytest.fixture
def store(fleet):
    with Store(fleet.database) as opened:
        setup.add_app(fleet, opened, App("home", ("lock",), ("get_relay",)))
        yield opened


def ended(fleet, store):
    made, _ = app_tokens.issue(fleet, store, "home", READ, 1)
    store.remove_token(made.id)
    with store.transaction():
        store.add_token(replace(made, expires=time.time() - 1))
    return made.id


def accounts(fleet) -> str:
    return (fleet.broker / "dynamic-security.json").read_text()


def test_while_the_api_is_away(fleet, store):
    ids = [ended(fleet, store), ended(fleet, store)]
    revoked, _ = app_tokens.issue(fleet, store, "home", READ, 1)
    store.revoke_token(revoked.id)
    removed: set[str] = set()
    with refused("unreachable"):
        app_tokens.sweep(fleet, store, removed)
    assert not any(one in accounts(fleet) for one in (*ids, revoked.id))
    assert removed == {*ids, revoked.id}
    # Their connections are still to be closed.
    assert len(store.tokens()) == 3


def test_an_application_goes_with_all_its_tokens_while_the_api_is_away(fleet, store):
    made = [app_tokens.issue(fleet, store, "home", READ, 1)[0].id for _ in range(2)]
    with refused("unreachable"):
        app_changes.remove(fleet, store, "home")
    assert not any(one in accounts(fleet) for one in made)
    assert all(one.revoked is not None for one in store.tokens())


def test_a_start_while_the_api_is_away(fleet, store):
    one = ended(fleet, store)
    app_tokens.enforce(fleet)
    assert one not in accounts(fleet)


def test_a_failure_of_any_kind_ends_no_sweeping(fleet, store, monkeypatch):
    asked = []
    done = threading.Event()

    def sweep(*_):
        asked.append(None)
        if len(asked) <= 2:
            raise RuntimeError("not foreseen")
        done.set()

    monkeypatch.setattr(app_tokens, "sweep", sweep)
    monkeypatch.setattr(token_sweeper, "_PAUSE_S", 0.01)
    said = []
    with token_sweeper.sweeping(fleet, said.append):
        assert done.wait(PATIENCE_S)
    assert [one.code for one in said] == ["internal-error"]


@contextlib.contextmanager
def api(status: int, body: bytes = b"", **headers: str):
    heard = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", heard
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b"[1]", b"\xff", b"[" * 5000, b"null", b"", b'["x"]']
)
def test_an_api_that_answers_something_else(fleet, body):
    with api(200, body) as (address, _), refused("broker-refused"):
        management.close_connections(with_api(fleet, address), ["t:home:1"])


def test_neither_a_redirect_nor_a_proxy_gets_the_password(fleet, monkeypatch):
    with api(200, b"[]") as (elsewhere, heard), api(302, Location=elsewhere) as (address, _):
        with refused("broker-refused"):
            management.close_connections(with_api(fleet, address), ["t:home:1"])
        monkeypatch.setenv("http_proxy", elsewhere)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with refused("broker-refused"):
            management.close_connections(with_api(fleet, address), ["t:home:1"])
        assert heard == []


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1:15672",
        "https://host:0",
        "https://host:65536",
        "https://user:pass@host",
        "file:///etc",
        "http://127.0.0.1.evil.example",
    ],
)
def test_addresses_of_no_api(fleet, address):
    with refused("config-malformed"):
        management.close_connections(with_api(fleet, address), ["t:home:1"])


def test_no_token_for_rabbitmq_that_could_not_be_taken_back(fleet, store):
    with refused("bad-argument"):
        app_tokens.issue(fleet, store, "home", Scope(("lock",), True, ("get_relay",)), 1, True)
    assert store.tokens() == []
