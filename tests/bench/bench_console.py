"""The console in a browser: a fleet of 5,000 devices, of which 50 send 200 events a second.

Authority, devices and the browser are processes of their own, with a real broker between. The
devices that send are on the page, so that each event changes a row and adds a line. The page is
open in every other turn: the authority's rate is the inverse of the CPU that an event costs it,
which the load of the machine does not change.

    python tests/bench/bench_console.py ROLE FLEET PASSWORD…     one of the processes
"""

import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "host"), str(TESTS), str(TESTS / "bench")]

from browser_kit import CHROMIUM, chromium, page_of  # noqa: E402  (the path must be set first)
from engine_kit import SEALED, pairs  # noqa: E402
from host_kit import new_fleet  # noqa: E402
from measure_kit import LeftOut, figure, row  # noqa: E402
from role_kit import BenchDevice, Role, serve_role  # noqa: E402
from warden_host.broker.accounts import device_account, device_password  # noqa: E402
from warden_host.broker.mosquitto import registry  # noqa: E402
from warden_host.engine.engine import Engine  # noqa: E402
from warden_host.fleet.fleet import Fleet  # noqa: E402
from warden_host.service.console import WebAddress  # noqa: E402
from warden_host.service.run import serving  # noqa: E402
from warden_host.store.operators import Operator  # noqa: E402
from warden_host.store.store import Store  # noqa: E402
from warden_host.store.web_logins import WebLogin  # noqa: E402
from web_kit import HASH, PASSWORD, SECRET, code_now  # noqa: E402

_ALL = [f"D{number:04}" for number in range(5000)]
_LIVE = _ALL[:50]
_RATE = 200  # events a second, of all devices together
_TURN_S, _TURNS = 5, 4
_BURST, _ROUND = 2000, 400  # events; without a pause
_PATIENCE_S = 60.0
_AGAIN_S = 10.0
# What a page has shown: each reading's number once, and how far behind the latest of them was.
_COUNT = """
window.shown = new Set(); window.behind = 0;
document.addEventListener("fleet", ({detail}) => {
  if (detail.name !== "temperature") return;
  shown.add(detail.body.n);
  behind = Math.max(behind, Date.now() / 1000 - detail.body.sent);
});
"""


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    if CHROMIUM is None:
        raise LeftOut("chromium is missing")
    try:
        import playwright  # noqa: F401
    except ImportError:
        raise LeftOut("Playwright is missing") from None
    with tempfile.TemporaryDirectory() as folder:
        yield from _rows(new_fleet(Path(folder)))


def _rows(fleet: Fleet) -> Iterator[dict[str, object]]:
    passwords = {name: device_password() for name in _LIVE}
    with Store(fleet.database) as store, registry.opened(fleet) as accounts:
        with store.transaction():
            for name in _ALL:
                store.add_device(replace(SEALED, device=name, pairs=pairs("authority")))
        for name, password in passwords.items():
            accounts.put(device_account("relay", name, password))
        store.put_operator(Operator("alice", 1, "alice", ("own",)))
        store.put_web_login(WebLogin("alice", HASH, SECRET))
    with (
        Role(__file__, "authority", fleet) as authority,
        Role(__file__, "devices", fleet, *passwords.values()) as devices,
        chromium() as browser,
        page_of(browser) as page,
    ):
        url = authority.began["url"]
        page.add_init_script(_COUNT)
        _log_in(page, url)
        opened = statistics.median(_opening_ms(page, url) for _ in range(5))
        yield row("console's first page, 5,000 devices", opened / 1000, "s", most=1)
        found = [_turn(authority, devices, page, url, number) for number in range(_TURNS)]
        total = _TURNS * _TURN_S * _RATE
        missing = total - sum(one["shown"] for one in found)
        yield row(f"events that the page lost, of {total:,}", missing, "events", most=0)
        behind = max(one["behind"] for one in found)
        yield row("page behind the devices, at most", behind, "s", most=2)
        busy, cpu = (statistics.median(one[key] for one in found) for key in ("busy", "thread"))
        peer = f"CPU of that thread {figure(cpu)} %"
        yield row("browser's main thread busy", busy, "%", most=30, peer=peer)
        alone, watched = (
            statistics.median(one[key] for one in found) for key in ("alone", "watched")
        )
        yield _rate_row("at 200 a second", alone, watched)
        alone, watched = _bursts(authority, devices, page, url)
        yield _rate_row("as fast as it can", alone, watched)
    size = sum(len(gzip.compress(file.read_bytes())) for file in scripts())
    yield row("script of all pages, gzipped", size / 1024, "KB", most=150)


def scripts() -> list[Path]:
    """Return the scripts that the console serves."""
    top = TESTS.parent
    plots = top / "build" / "web" / "node_modules" / "uplot" / "dist" / "uPlot.esm.js"
    own = (top / "tools" / "warden_host" / "web" / "static").rglob("*.js")
    return [*own, *(one for one in (plots,) if one.is_file())]


def _log_in(page: Any, url: str) -> None:
    page.goto(url)
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Code of the authenticator").fill(code_now())
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Devices").wait_for()


def _opening_ms(page: Any, url: str) -> float:
    page.goto(url)
    return float(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))


def _turn(authority: Role, devices: Role, page: Any, url: str, number: int) -> dict[str, float]:
    """Return the figures of two times the same events: without a page, and with one."""
    count = _TURN_S * _RATE
    page.goto("about:blank")
    alone = _cost(authority, devices)
    page.goto(url)
    page.get_by_text("live", exact=True).wait_for()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    before, start = _metrics(session), time.monotonic()
    watched = _cost(authority, devices)
    end = start + _PATIENCE_S  # events that are lost never come
    while page.evaluate("shown.size") < count and time.monotonic() < end:
        page.wait_for_timeout(100)  # wait_for_function would evaluate text, which the page forbids
    after, took = _metrics(session), time.monotonic() - start
    shown, behind = page.evaluate("[shown.size, behind]")
    session.detach()
    return {
        "alone": alone,
        "watched": watched,
        "shown": shown,
        "behind": behind,
        "busy": 100 * (after["TaskDuration"] - before["TaskDuration"]) / took,
        "thread": 100 * (after["ThreadTime"] - before["ThreadTime"]) / took,
    }


def _bursts(authority: Role, devices: Role, page: Any, url: str) -> tuple[float, float]:
    """Return the authority's CPU seconds for an event that comes with many: alone, watched."""
    alone, watched = [], []
    for _ in range(_TURNS):
        page.goto("about:blank")
        alone.append(_cost(authority, devices, _BURST))
        page.goto(url)
        page.get_by_text("live", exact=True).wait_for()
        watched.append(_cost(authority, devices, _BURST))
    return statistics.median(alone), statistics.median(watched)


def _rate_row(how: str, alone: float, watched: float) -> dict[str, object]:
    peer = f"{figure(watched * 1e6)} µs an event, {figure(alone * 1e6)} without a page"
    name = f"authority's rate with a page, {how}"
    return row(name, 100 * alone / watched, "%", least=90, peer=peer)


def _cost(authority: Role, devices: Role, count: int = 0) -> float:
    """Return the authority's CPU seconds for an event; count: of a burst, else events in turn."""
    before = authority.do(0)["cpu"]
    devices.do(-count or _TURN_S * _RATE)
    return float(authority.do(0)["cpu"] - before) / (count or _TURN_S * _RATE)


def _metrics(session: Any) -> dict[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def _be_authority(fleet: Fleet) -> None:
    with serving(fleet, web=WebAddress("127.0.0.1", 0)) as service:
        assert service.console is not None

        def work(_: int) -> dict[str, object]:
            while service.authority.load.waiting:
                time.sleep(0.01)
            service.authority.ask(Engine.write_events)
            return {"cpu": time.process_time()}

        serve_role(work, url=service.console.url)


def _be_devices(fleet: Fleet, *passwords: str) -> None:
    devices = [BenchDevice(fleet, word, name) for name, word in zip(_LIVE, passwords, strict=True)]
    again = time.monotonic() + _AGAIN_S
    while waiting := [device for device in devices if not device.keys]:
        time.sleep(0.05)
        if time.monotonic() > again:  # as a device does, whose hello or its answer was lost
            again += _AGAIN_S
            for device in waiting:
                device.send_event("hello", device.hello())
    sent = 0

    def work(count: int) -> dict[str, object]:
        """Send so many events at the rate; a negative number of them as a burst."""
        nonlocal sent
        start = time.monotonic()
        for number in range(abs(count)):
            if count > 0:
                time.sleep(max(0.0, start + number / _RATE - time.monotonic()))
            elif number % _ROUND == _ROUND - 1:
                time.sleep(0.3)  # a broker drops what a listener is too slow for
            device = devices[sent % len(devices)]
            body = {"c": 21.5, "n": sent, "sent": time.time()}
            device.send_event("temperature", device.seal("temperature", [0, None, body]))
            sent += 1
        time.sleep(1)  # for what is on its way
        return {"took": time.monotonic() - start}

    serve_role(work)
    for each in devices:
        each.close()


if __name__ == "__main__":
    role, root, *given = sys.argv[1:]
    {"authority": _be_authority, "devices": _be_devices}[role](Fleet(Path(root)), *given)
