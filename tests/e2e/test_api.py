"""The API with a real device: a stream, a generated client, schemathesis, a page in a browser."""

import contextlib
import functools
import http.server
import itertools
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_kit import Caller, token_of
from browser_kit import check_accessible, chromium, page_of
from fleet_kit import DEVICE, TYPE, Board, World
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from warden_host.devices import setup
from warden_host.protocol.access_token import Scope
from warden_host.service.console import WebAddress
from warden_host.service.run import serving
from warden_host.store.store import App, Store

COMMANDS = ("set_relay", "probe")


class Place:
    """A fleet that is served, with its device on, and the first event of it in a stream."""

    event: Any

    def __init__(self, world: World, port: int) -> None:
        self.world = world
        self.port = port

    def token(self, *origins: str) -> str:
        return token_of(self.world.fleet, Scope((TYPE,), True, COMMANDS, True, origins))[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, umqtt_path: Path) -> Iterator[Place]:
    world = World(tmp_path_factory.mktemp("api"))
    with Store(world.fleet.database) as store:
        setup.add_app(world.fleet, store, App("home", (TYPE,), COMMANDS))
    home = world.provision()
    with serving(world.fleet, world.news.add, web=WebAddress("127.0.0.1", 0)) as service:
        assert service.console is not None
        made = Place(world, service.console.port)
        with contextlib.ExitStack() as stack:
            with Caller(made.port, made.token()).stream() as stream:
                stream.next(kind="ready")
                stack.enter_context(Board(home))
                made.event = stream.next(kind="event")
            yield made


def test_events_and_commands_of_a_stream(place: Place) -> None:
    event = place.event
    assert (event["device"], event["name"], event["body"]) == (DEVICE, "temperature", {"c": 20})
    publisher = {"kind": "device", "id": DEVICE, "type": TYPE, "proven": True}
    assert event["publisher"] == publisher
    with Caller(place.port, place.token()).stream() as stream:
        stream.next(kind="ready")
        stream.send(kind="command", id="c1", device=DEVICE, command="set_relay", args={"on": 1})
        command = stream.next(kind="command")
        assert command["publisher"]["id"] == "home" and command["body"] == {"on": 1}
        answer = stream.next(kind="answer")
        assert (answer["id"], answer["ok"], answer["result"]) == ("c1", True, {"on": 1})
        stream.send(kind="command", id=2, device=DEVICE, command="set_relay")
        answer = stream.next(kind="answer")  # its handler raised
        assert (answer["id"], answer["ok"], answer["error"]) == (2, False, "command-failed")


def test_a_generated_client_commands_a_device(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openapi_python_client = pytest.importorskip("openapi_python_client", reason="`make setup`")
    from openapi_python_client import config

    status, document = Caller(place.port).get("/openapi.json")
    assert status == 200
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    terms = config.Config.from_sources(
        config.ConfigFile(post_hooks=[]),
        config.MetaType.NONE,
        document_source=tmp_path / "openapi.json",
        file_encoding="utf-8",
        overwrite=True,
        output_path=tmp_path / "warden_api",
    )
    assert openapi_python_client.generate(config=terms) == []
    monkeypatch.syspath_prepend(tmp_path)
    try:
        from warden_api import AuthenticatedClient
        from warden_api.api.default import get_device, list_devices, list_events, send_command
        from warden_api.models import Answer, Command, CommandArgs

        base = f"http://127.0.0.1:{place.port}/api/v1"
        with AuthenticatedClient(base_url=base, token=place.token()) as client:
            (row,) = list_devices.sync(client=client).devices
            assert (row.device, row.state) == (DEVICE, "online")
            assert get_device.sync(DEVICE, client=client).session is True
            body = Command("set_relay", args=CommandArgs.from_dict({"on": 0}))
            answer = send_command.sync(DEVICE, client=client, body=body)
            assert isinstance(answer, Answer)
            assert (answer.ok, answer.result) == (True, {"on": 0})
            (event,) = list_events.sync(DEVICE, client=client, limit=1).events
            assert event.publisher.proven is True
            refused = send_command.sync(DEVICE, client=client, body=Command("get_relay"))
            assert refused.code == "token-scope"
    finally:
        for name in [one for one in sys.modules if one.partition(".")[0] == "warden_api"]:
            del sys.modules[name]


def test_no_request_ends_in_an_error_of_ours(place: Place) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="`make setup`")
    tokens = itertools.cycle([place.token() for _ in range(8)])  # each has its rate
    address = f"http://127.0.0.1:{place.port}/api/v1"
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    statuses: dict[str, set[int]] = {}
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]

    def try_all(operation: Any, modes: Any) -> None:
        @settings(
            max_examples=12,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=st.one_of(*map(operation.as_strategy, modes)), of_it=st.booleans())
        def every(case: Any, of_it: bool) -> None:
            if case.path_parameters and of_it:
                case.path_parameters["device"] = DEVICE
            if isinstance(case.body, dict) and of_it:
                case.body["command"] = "set_relay"
            response = case.call(headers={"Authorization": f"Bearer {next(tokens)}"})
            case.validate_response(response, checks=checks)
            statuses.setdefault(operation.path, set()).add(response.status_code)

        every()

    good, bad = schemathesis.GenerationMode
    for found in schema.get_all_operations():
        operation = found.ok()
        try_all(operation, (good,) if operation.path == "/token" else (good, bad))
    assert all(200 in one for one in statuses.values()), statuses
    assert len(statuses) == 5


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_the_example_page_commands_a_device(place: Place, repo: Path) -> None:
    folder = functools.partial(Quiet, directory=str(repo / "examples" / "web"))
    with (
        chromium() as browser,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), folder) as server,
        page_of(browser) as page,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            origin = f"http://127.0.0.1:{server.server_address[1]}"
            page.goto(origin)
            page.get_by_label("API").fill(f"http://127.0.0.1:{place.port}/api/v1")
            connect = page.get_by_role("button", name="Connect")
            page.get_by_label("Token").fill(place.token())  # for programs, and for no page
            connect.click()
            page.get_by_text("The API can't be reached from here.").wait_for()
            page.get_by_label("Token").fill(place.token(origin))
            connect.click()
            page.get_by_text("Connected: 1 devices.").wait_for()
            page.get_by_label("Command").select_option("set_relay")
            page.get_by_label("Arguments").fill('{"on": 1}')
            page.get_by_role("button", name="Send").click()
            page.locator("output", has_text=f'{DEVICE} obeyed: {{"on":1}}').wait_for()
            page.locator("#events li", has_text="reply set_relay").wait_for()
            assert page.evaluate("document.cookie + localStorage.length") == "0"
            check_accessible(page)
        finally:
            server.shutdown()
            thread.join()
