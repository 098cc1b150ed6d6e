"""Search for the message that costs the authority most: hill climbing over COSE, CBOR and JSON.

python tests/fuzz/dearest.py SECONDS     each kind so long; a message above its bound is a finding

What counts is the number of lines of Python that run until the engine is done with the message on
every application's link, and the bytes that cbor2 and json are given, 16 to a line. The count does
not depend on the machine's speed.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import cbor2

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "host"), str(TESTS.parent / "tools")]

from engine_kit import PLAIN, POLICY, SEALED, K, Stage  # noqa: E402  (the path must be set first)
from host_kit import PeerDevice, canonical  # noqa: E402
from warden_host.protocol import policy  # noqa: E402

MOST = 16384
BYTES_A_LINE = 16
# Lines that a message may cost. A thousand take 0.03 to 0.05 ms, the database aside: a message
# stays below 1 ms before its tag is verified, below 5 ms after.
BOUNDS = {"stranger": 3_000, "hello": 3_000, "opened": 80_000, "plain": 30_000}


def counted(work: Callable[[], Any]) -> int:
    """Return how many lines of Python ran, and the lines' worth of what was decoded."""
    lines = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    given = 0
    decoders: list[tuple[Any, Callable[..., Any]]] = [(cbor2, cbor2.loads), (json, json.loads)]

    def counting(load: Callable[..., Any]) -> Callable[..., Any]:
        def loads(data: Any, **options: Any) -> Any:
            nonlocal given
            given += len(data)
            return load(data, **options)

        return loads

    before = sys.gettrace()
    for module, load in decoders:
        module.loads = counting(load)
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        for module, load in decoders:
            module.loads = load
    return lines + given // BYTES_A_LINE


class World:
    """An engine with one device and its session, and how one kind of message reaches it.

    stranger: sealed, by who has no key. hello: the same on the hello's topic. opened: the payload
    of a device that holds its key. plain: JSON.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.stage = Stage(folder, PLAIN if kind == "plain" else SEALED)
        self.links = [pair.appid for pair in (PLAIN if kind == "plain" else SEALED).pairs]
        self.peer = PeerDevice(K["authority"], policy.policy_hash(POLICY))
        if kind != "plain":
            self.stage.handshake(self.peer)

    def cost(self, data: bytes) -> int:
        return counted(self.work(data))

    def seconds(self, data: bytes) -> float:
        """Return the CPU time of this thread."""
        work = self.work(data)
        before = time.thread_time()
        work()
        return time.thread_time() - before

    def work(self, data: bytes) -> Callable[[], None]:
        """Return what hands the message to the engine, as the broker does to each link."""
        stage = self.stage
        event, fmt = "x", "cose"
        if self.kind == "opened":  # the payload of a device that holds its key
            data = self.peer.seal(event, data[: MOST - 80])
        elif self.kind == "plain":
            fmt = "json"
        elif self.kind == "hello":
            event = "hello"
        stage.engine.state(self.peer.device).refusals = {}
        stage.news.clear()

        def receive() -> None:
            for appid in self.links:
                stage.receive(event, data[:MOST], appid, fmt)

        return receive

    def seeds(self) -> list[bytes]:
        if self.kind == "plain":
            front, back = b'{"event":"x","deviceId":"D1","body":{"a":[', b"1]}}"
            return [front + token * (1500 // width) + back for token, width in _JSON_TOKENS]
        if self.kind == "opened":
            runs = [_run(token) for token in _CBOR_TOKENS]
            return [b"\x83\x00\xf6\xa1\x61a" + run for run in runs]
        if self.kind == "hello":
            return [self.peer.hello(), bytes.fromhex("993ffd") + b"\xa0" * 500]
        return [
            bytes.fromhex("993ffd") + b"\xa0" * 16381,
            self.peer.seal("x", [0, None, {}])[:-1] + b"\0",
            self.peer.seal("x", b"\xa0" * 16000, headers={4: bytes(8)}),
            canonical([canonical({n: n for n in range(12)}), {}, b"\xa0" * 16000]),
        ]

    def close(self) -> None:
        self.stage.store.close()


_CBOR_TOKENS = [
    bytes.fromhex(token)
    for token in (
        "a0",
        "80",
        "01",
        "1820",
        "192001",
        "f93c01",
        "fa40490fdb",
        "60",
        "8180",
        "a10000",
    )
]
_JSON_TOKENS = [(b"1,", 1), (b"{},", 1), (b"[],", 1), (b'"",', 1), (b'{"":1.5},', 3), (b"0.1,", 1)]


def _run(token: bytes) -> bytes:
    """Return a list of as many copies as the host takes, nearly."""
    count = 1500 // (1 + (token[0] >> 5 == 4 and token[0] & 1) + 2 * (token == b"\xa1\0\0"))
    return b"\x99" + count.to_bytes(2, "big") + token * count


def mutated(rng: random.Random, data: bytes, tokens: list[bytes]) -> bytes:
    """Return the message with one to three changes."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out) + 1)
        how = rng.randrange(6)
        if how == 0:
            piece = bytes(out[at : at + rng.choice((1, 2, 3, 4, 8, 64))])
            out[at:at] = piece * rng.choice((1, 2, 16, 256, 2048))
        elif how == 1:
            out[at:at] = rng.choice(tokens) * rng.choice((1, 1, 8, 128, 1024))
        elif how == 2 and at < len(out):
            out[at] = rng.randrange(256)
        elif how == 3:
            del out[at : at + rng.choice((1, 2, 3, 16, 256))]
        elif how == 4:
            _lengthen(rng, out)
        elif at < len(out):
            out[at] = (out[at] + rng.choice((-1, 1))) & 255
    return bytes(out[:MOST])


def _lengthen(rng: random.Random, out: bytearray) -> None:
    """Add items to the first long list, string or map, and to the length in its head."""
    for major in (b"\x99", b"\x59", b"\xb9"):
        at = out.find(major)
        if at >= 0 and at + 3 < len(out):
            more = rng.choice((1, 10, 100, 500))
            count = int.from_bytes(out[at + 1 : at + 3], "big") + more
            out[at + 1 : at + 3] = (count & 0xFFFF).to_bytes(2, "big")
            out[at + 3 : at + 3] = rng.choice(_CBOR_TOKENS[:8]) * more
            return


def climb(
    world: World, rng: random.Random, more: Callable[[int], bool], keep: int = 8
) -> tuple[int, bytes]:
    """Return (lines, message) of the dearest that was found. more(round): whether to go on."""
    tokens = [token for token, _ in _JSON_TOKENS] if world.kind == "plain" else _CBOR_TOKENS
    best = sorted(((world.cost(seed), seed) for seed in world.seeds()), reverse=True)[:keep]
    number = 0
    while more(number):
        number += 1
        data = mutated(rng, rng.choice(best)[1], tokens)
        cost = world.cost(data)
        if cost > best[-1][0] and all(data != known for _, known in best):
            best = sorted([*best, (cost, data)], reverse=True)[:keep]
    return best[0]


def for_seconds(seconds: float) -> Callable[[int], bool]:
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() < end


def main(seconds: float) -> int:
    bad = 0
    for kind, bound in BOUNDS.items():
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), kind)
            cost, data = climb(world, random.Random(), for_seconds(seconds))
            spent = min(world.seconds(data) for _ in range(5)) * 1e3
            world.close()
        print(f"{kind}: {cost} lines of {bound}, {spent:.2f} ms, {len(data)} bytes")
        if cost > bound:
            bad += 1
            found = TESTS.parent / "build" / "fuzz" / f"finding-dearest-{kind}"
            found.parent.mkdir(parents=True, exist_ok=True)
            found.write_bytes(data)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
