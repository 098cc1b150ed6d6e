"""Measure the heap that the whole agent takes with 32-bit words, as boards have them.

On the interpreter of `make test-32`, MicroPython 1.25 for i386, with the build for boards. Like
every unix port it keeps TLS outside this heap: a board needs about 23 KB more for it, in pieces of
up to 17 KB. Debian's build speaks TLS 1.3, for which the one cipher suite that a device asks for
does not stand, so the broker is held to TLS 1.2, as every stock firmware is.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bench_agent as agent
import bench_update as update
from demo import network as demo_network
from measure_kit import LeftOut, row
from warden_host.broker.mosquitto.broker import Broker
from warden_host.service.authority import Authority

REPO = Path(__file__).resolve().parents[2]
_ARCHITECTURE = "x86"
_LEAST_KB, _MOST_KB, _SPAN_KB = 64, 192, 64
_TLS_1_2 = """\
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = limits
[limits]
MaxProtocol = TLSv1.2
"""


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    done = subprocess.run([REPO / "tools" / "setup" / "micropython32.sh"], check=False)
    if done.returncode == 3:
        raise LeftOut("no MicroPython with 32-bit words can be had here")
    if done.returncode:
        raise RuntimeError(f"tools/setup/micropython32.sh ended with {done.returncode}")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(demo_network.folder())
        limits = folder / "openssl.cnf"
        limits.write_text(_TLS_1_2)
        program = REPO / "build" / "mp32" / "micropython"
        stack.enter_context(_environment(MICROPYTHON=str(program), OPENSSL_CONF=str(limits)))
        world = agent.World(folder)
        with Broker(world.fleet), Authority(world.fleet, world.news.put) as authority:
            heap = agent.smallest_heap(world, authority, _ARCHITECTURE)
            live = agent.live_heap(world, authority)
        device = update.Heap(stack, _ARCHITECTURE)
        idle = device.smallest(0, _LEAST_KB, _MOST_KB)
        small = device.smallest(update.SMALL, idle - 1, idle + _SPAN_KB)
        yield from device.phase_rows(update.SMALL, 32)
    unit = "KB of 32-bit heap"
    yield row("32 bits: whole agent connected, TLS not counted", heap, unit, most=100)
    yield row("32 bits: heap in use with both sessions up, TLS not counted", live / 1024, unit)
    yield row("32 bits: idle agent with slots, TLS not counted", idle, unit)
    name = f"32 bits: heap to install {update.SMALL // 1024} KB"
    yield row(f"{name}, TLS not counted", small, unit)
    yield row(f"{name}, over the idle agent's", small - idle, "KB", most=10)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Give the processes that start here these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
