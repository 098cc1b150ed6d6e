"""Measure the session layer and the signatures on the emulated Pico W, against the host's.

The host's own session is the peer, over the REPL: no network, no broker. The figures go to
build/pico/costs.json, as rows of `make bench`.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pico_kit import Pico, Row, program_pico, write_rows
from warden_client.protocol.freshness import DeviceMark
from warden_client.protocol.results import Received, Send
from warden_client.protocol.session import Instant, Session
from warden_host.names import AUTHORITY, Address
from warden_host.release import signing_key

PROGRAM = Path(__file__).parent / "device" / "costs.py"
ADDRESS = Address("relay", "D1", AUTHORITY)
KEY, POLICY = bytes(range(32)), bytes(32)
NOW = Instant(1_800_000_000, 1000.0)
ROUNDS = 9


class Cost(NamedTuple):
    """What a piece of work took."""

    us: int
    size: int


class Answer(NamedTuple):
    """What costs.py printed."""

    costs: list[Cost]
    messages: list[bytes]
    flag: bool


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory, firmware: Path) -> Iterator[Pico]:
    made = program_pico(tmp_path_factory.mktemp("costs"), firmware, PROGRAM)
    try:
        made.execute("import costs")
        yield made
    finally:
        made.kill()


def call(pico: Pico, function: str, *args: object) -> Answer:
    """Call a function of costs.py."""
    costs, messages, flag = [], [], False
    text = ", ".join(repr(arg) for arg in args)
    for line in pico.execute(f"costs.{function}({text})").splitlines():
        word, *rest = line.split()
        if word == "cost":
            costs.append(Cost(*map(int, rest)))
        elif word == "bytes":
            messages.append(bytes.fromhex(rest[0]))
        elif word in ("up", "valid"):
            flag = rest == ["True"]
    return Answer(costs, messages, flag)


def median(costs: list[Cost]) -> Cost:
    return Cost(*(int(statistics.median(part)) for part in zip(*costs, strict=True)))


def test_session(pico: Pico, repo: Path) -> None:
    device = (ADDRESS.type, ADDRESS.device, ADDRESS.appid, KEY.hex(), POLICY.hex())
    app = Session(ADDRESS, KEY, POLICY, DeviceMark(), lambda _: None)
    hello = call(pico, "print_hello", *device).messages[0]
    [welcome] = app.receive("hello", hello, NOW)
    assert isinstance(welcome, Send)
    joined = call(pico, "print_answer", "welcome", welcome.data.hex(), 0)
    ack = app.receive("ready", joined.messages[0], NOW)[0]
    assert isinstance(ack, Send)
    assert call(pico, "print_answer", "ack", ack.data.hex(), 0).flag
    commands = []
    for number in range(1, ROUNDS + 1):
        sealed = app.seal("set_relay", number, {"on": 1}, 30, NOW)
        answer = call(pico, "print_answer", "set_relay", sealed.hex(), 1000)
        commands += answer.costs
        reply = app.receive("reply", answer.messages[0], NOW)
        assert reply == [Received("reply", number, {"ok": True, "result": {"on": 1}})]
    command, welcomed = median(commands[1:]), joined.costs[0]
    write_rows(
        repo / "build" / "pico" / "session.json",
        [
            Row("command, handler, reply", command.us / 1000, "ms", most=8),
            Row("command, handler, reply: allocated", command.size, "bytes", most=2048),
            Row("welcome, keys, ready", welcomed.us / 1000, "ms", most=20),
            Row("welcome, keys, ready: allocated", welcomed.size, "bytes"),
        ],
    )


@pytest.mark.parametrize("table", [True, False], ids=["table", "plain"])
def test_signature(pico: Pico, repo: Path, table: bool) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    key = signing_key.material(private.public_key()).hex()
    message = b"a manifest"
    signature = signing_key.raw_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
    answer = call(pico, "print_verdict", key, message, signature.hex(), table)
    assert answer.flag
    forged = bytes([signature[0], signature[1] ^ 1]) + signature[2:]
    assert not call(pico, "print_verdict", key, message, forged.hex(), table).flag
    verified = answer.costs[-1].us / 1000
    if table:
        rows = [
            Row("ES256 with the key's table", verified, "ms", most=100),
            Row("the table of a key made", answer.costs[0].us / 1000, "ms"),
        ]
    else:
        rows = [Row("ES256 without a table", verified, "ms")]
    write_rows(repo / "build" / "pico" / f"es256-{'table' if table else 'plain'}.json", rows)
