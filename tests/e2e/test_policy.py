"""`warden policy` on a live device: real mosquitto, real firmware, a line that may be slow."""

import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import server_kit
from fleet_kit import DEVICE, PATIENCE_S, Board, World
from port_kit import free_ports
from warden_host.cli import main
from warden_host.names import AUTHORITY
from warden_host.service.run import serving

APPLICATION_DATA = 23  # the type of a record of TLS (RFC 5246 §6.2.1)
SUBACK = 2  # of the records with data that the broker sends, the first is its CONNACK


class Line:
    """What lies between device and broker: passes bytes on, but the answer to SUBSCRIBE comes
    delay_s after that to the log-in: if the two came together, it would be in time.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.delay_s = 0.0

    def __call__(self, near: socket.socket) -> None:
        waiting, count = b"", 0  # records with data
        with socket.create_connection((server_kit.HOST, self._port)) as far:
            while True:
                for ready in select.select([near, far], [], [], 0.1)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is near:
                        far.sendall(data)
                        continue
                    waiting += data
                    while len(waiting) >= (size := 5 + int.from_bytes(waiting[3:5], "big")):
                        count += waiting[0] == APPLICATION_DATA
                        if count == SUBACK:
                            time.sleep(self.delay_s)
                            count += 1
                        near.sendall(waiting[:size])
                        waiting = waiting[size:]


@pytest.fixture
def line(tmp_path: Path, umqtt_path: Path) -> Iterator[tuple[World, Board, Line]]:
    (port,) = free_ports(1)
    world = World(tmp_path, device_port=port)
    made = Line(world.port)
    board = Board(world.provision(limits={"backoff_min_ms": 100}))
    with (
        serving(world.fleet, world.news.add) as service,
        server_kit.listening(made, port),
        board,
    ):
        world.authority = service.authority
        wait_session(world, board)
        yield world, board, made


def wait_session(world: World, board: Board) -> None:
    board.wait_line("log session-stands")
    world.fleet_event("session", app=AUTHORITY)


def warden(world: World, *arguments: str) -> int:
    return main.run(["--fleet", str(world.fleet.root), "policy", *arguments])


def said(capsys: Any) -> list[dict[str, Any]]:
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def test_a_policy_that_works_and_one_that_does_not(
    line: tuple[World, Board, Line], capsys: Any
) -> None:
    world, board, made = line
    capsys.readouterr()
    more = ("--timeout", str(PATIENCE_S), "--json")
    assert warden(world, "set", DEVICE, "stall_ms=3000", "max_message=4096", *more) == 0
    assert said(capsys)[-1]["changed"] == {"stall_ms": 3000, "max_message": 4096}
    board.wait_line("log policy-changed")
    world.fleet_event("session", app=AUTHORITY)
    assert world.command("set_relay", on=1) == {"on": 1}
    # A power cut changes nothing.
    board.kill()
    board.start()
    wait_session(world, board)
    assert not [news for news in world.news.all() if news.kind == "diverged"]
    # Too little patience for this line: three tries, and the old policy is back.
    made.delay_s = 2.0
    assert warden(world, "set", DEVICE, "stall_ms=500", *more) == 4
    assert said(capsys)[-1]["error"]["code"] == "policy-unproved"
    made.delay_s = 0.0
    world.fleet_event("incident", code="policy-failed")
    assert warden(world, "show", DEVICE, "--json") == 0
    (shown,) = said(capsys)
    assert (shown["policy"]["stall_ms"], shown["trying"]) == (3000, None)
    assert world.command("set_relay", on=0) == {"on": 0}
    # Another way to the same broker, and an outbox where none was. The device's own limits are
    # those from before: the session that proves them is the new broker's.
    (port,) = free_ports(1)
    with server_kit.listening(Line(world.port), port):
        there = f"servers={server_kit.HOST}:{port}"
        assert warden(world, "set", DEVICE, there, "outbox=4", *more) == 0
        told = said(capsys)[-1]["changed"]
        assert told == {"outbox": 4, "servers": [f"{server_kit.HOST}:{port}"]}
        board.kill()
        board.start()
        wait_session(world, board)
        assert f"link-up {server_kit.HOST}:{port}" in "".join(board.lines.all())
    assert warden(world, "show", DEVICE, "--json") == 0
    assert said(capsys)[-1]["policy"]["outbox"] == 4
    assert warden(world, "set", DEVICE, f"servers={server_kit.HOST}:{port}", "x=1") == 2
    assert warden(world, "set", DEVICE, "servers=elsewhere.example") == 2
