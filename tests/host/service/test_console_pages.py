"""The console's pages: what each role sees and may do, pages of rows, markup, codes, telemetry."""

import asyncio
import html
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from browser_kit import ROOT, check_accessible, chromium, page_of
from console_kit import (
    ADDRESS,
    CODE,
    DEVICE,
    DURESS,
    MARKUP,
    PLAIN,
    ROLES,
    SECRETS,
    fill,
    put_code,
)
from host_kit import refused
from otp_kit import numbers
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_host.engine.events import FleetEvent
from warden_host.fleet import errors_page
from warden_host.fleet.fleet import Fleet
from warden_host.otp.notify.console import ConsoleWay
from warden_host.otp.notify.delivery import Message
from warden_host.service import console_process
from warden_host.service.console import SOCKET, WebAddress
from warden_host.service.request_fields import ROWS, paged
from warden_host.service.run import Service, serving
from warden_host.service.web_pages import series_of
from warden_host.store.store import Store
from warden_host.web import assets
from warden_host.web.app import build
from web_kit import Browser, let_in

MORE = 120  # devices beside the two
STORY = f"/device/{DEVICE}/story"
PAGES = (
    "/",
    "/groups",
    "/group/ground-floor",
    "/rollouts",
    "/rollout/1",
    "/releases",
    "/incidents",
    "/bans",
    "/alarms",
    "/log",
    f"/device/{DEVICE}",
    f"/device/{DEVICE}/history",
    STORY,
    f"/device/{PLAIN}",
    f"/device/{PLAIN}/story",
)
# What axe looks at, of each kind one: others are made of the same parts. In the dark: again.
AXE = ("/", "/rollout/1", "/bans", f"/device/{DEVICE}")
DARK = (f"/device/{DEVICE}",)
# Of the documents: the file's name, and of what on the page.
PICTURES = {
    "/": ("devices", ""),
    STORY: ("story", ""),
    f"/device/{DEVICE}": ("telemetry", "section.series[data-field=c]"),
}
WIDE, NARROW = {"width": 1000, "height": 700}, {"width": 360, "height": 640}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return fill(tmp_path_factory.mktemp("pages"), MORE)


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def authority(fleet: Fleet, port: int) -> Iterator[ExitStack]:
    """Yield what ends the authority when it is closed."""
    with ExitStack() as running:
        yield running


def start(authority: ExitStack, fleet: Fleet, port: int) -> Service:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console_process, "START_S", PATIENCE_S)  # Python starts slowly under load
        return authority.enter_context(serving(fleet, web=WebAddress("127.0.0.1", port)))


@pytest.fixture(scope="module")
def service(authority: ExitStack, fleet: Fleet, port: int) -> Service:
    return start(authority, fleet, port)


@pytest.fixture(scope="module")
def browsers(fleet: Fleet, service: Service, port: int) -> dict[str, Browser]:
    """Role → the browser of an operator who has it."""
    found = {}
    for name, role in ROLES.items():
        found[role] = Browser(port)
        let_in(fleet, found[role], name)
    return found


def result(browser: Browser, path: str, **fields: str) -> str:
    """Send a form and return what the page says then, as text."""
    assert browser.post(path, token=browser.token(), **fields)[0] == 303
    status, text = browser.get(browser.headers["location"])
    assert status == 200
    found = re.search(r'<section class="verdict.*?</section>', text, re.DOTALL)
    assert found is not None, text
    return html.unescape(re.sub("<[^>]*>", " ", found[0]))


@pytest.mark.parametrize("role", ROLES.values())
def test_each_page_by_role(browsers, service, role):
    put_code(service.authority)
    for path in (*PAGES, f"/device/{DEVICE}/telemetry", f"/device/{DEVICE}/gate"):
        status, text = browsers[role].get(path)
        assert status == 200, (path, text)
        plain = html.unescape(text)
        for secret in (*SECRETS, ADDRESS):
            assert secret not in plain, path
        assert not {CODE, DURESS} & numbers(plain), path
        if not path.endswith("/telemetry"):  # JSON for a script, which sets texts alone
            assert "<img" not in text and "onerror=alert(1)>" not in text, path
            assert "\u202e" not in text, path
    for path, form, roles in (
        ("/groups", 'action="/groups"', ("update", "own")),
        ("/rollouts", 'action="/rollouts"', ("update", "own")),
        ("/rollout/1", 'action="/rollout/1/resume"', ("update", "own")),
        ("/bans", 'action="/bans"', ("command", "own")),
        ("/alarms", 'action="/alarms"', ("own",)),
        (f"/device/{DEVICE}", "/forgeries", ("own",)),
        (f"/device/{DEVICE}/story", f'action="/device/{DEVICE}/code"', ("command", "own")),
    ):
        assert (form in browsers[role].get(path)[1]) == (role in roles), (path, role)


@pytest.mark.parametrize(
    ("path", "fields", "role"),
    [
        ("/groups", {"group": "g", "devices": DEVICE}, "command"),
        ("/rollouts", {"release": "lock-1.4.0", "kind": "type", "target": "lock"}, "command"),
        ("/rollout/1/stop", {}, "command"),
        ("/rollout/1/resume", {}, "look"),
        ("/bans", {"network": "203.0.113.9"}, "update"),
        ("/bans", {"network": "203.0.113.7/32", "lift": "yes"}, "look"),
        ("/alarms", {}, "command"),
        (f"/device/{DEVICE}/code", {}, "update"),
        (f"/device/{DEVICE}/code", {}, "look"),
        (f"/device/{DEVICE}/forgeries", {"app": "home", "command": "set_relay"}, "look"),
        (f"/device/{DEVICE}/forgeries", {"app": "home", "command": "set_relay"}, "command"),
        (f"/device/{DEVICE}/story", {"command": "set_relay"}, "look"),
        (f"/device/{DEVICE}/story", {"command": "set_relay", "valid": "no"}, "command"),
    ],
)
def test_a_form_that_the_role_does_not_allow(browsers, service, path, fields, role):
    put_code(service.authority)
    text = result(browsers[role], path, **fields)
    assert "role-missing" in text and CODE not in text


def test_forms_need_their_token(browsers):
    for path in ("/groups", "/rollouts", "/bans", "/alarms", f"/device/{DEVICE}/code"):
        assert browsers["own"].post(path, token="0" * 64)[0] == 403


def test_devices_are_searched_and_shown_in_pages(browsers, fleet):
    browser = browsers["look"]

    def rows(query: str = "") -> list[str]:
        status, text = browser.get(f"/{query}")
        assert status == 200
        return re.findall(r'<tr data-device="([^"]+)">', text)

    assert len(rows()) == ROWS and rows()[:2] == [PLAIN, DEVICE]
    assert len(rows("?page=3")) == MORE + 2 - 2 * ROWS
    assert rows("?page=4") == []
    assert rows("?search=DOOR") == [PLAIN, DEVICE]
    assert rows("?search=sensor-011") == [f"sensor-{n:04}" for n in range(110, 120)]
    assert rows("?group=ground-floor&state=quarantined") == [PLAIN]
    assert rows("?state=revoked") == []
    with Store(fleet.database) as store, store.transaction():
        store.order_ending("sensor-0119", True, False, time.time())
    assert rows("?state=revoked") == ["sensor-0119"]
    with Store(fleet.database) as store, store.transaction():
        store.end_ending("sensor-0119")
    assert "page=2" in browser.get("/?search=sensor")[1]
    for query in ("?page=x", "?page=-1", "?page=99999"):
        assert browser.get(f"/{query}")[0] == 400
    assert browser.get(f"/?search={MARKUP[:4]}")[0] == 200
    assert browser.get("/?group=nobody")[0] == 404


def test_a_code_opens_what_it_means(browsers):
    """As docs/errors.md says it; a word of a device's own stays a word."""
    known = errors_page.entries()["tampered"]
    for path in ("/incidents", f"/device/{DEVICE}", "/log", f"/device/{DEVICE}/history"):
        text = html.unescape(browsers["look"].get(path)[1])
        assert "<summary>tampered</summary>" in text, path
        assert f"{known.means} {known.do}".replace("`", "") in text, path
        assert len(re.findall("<summary>", text)) == len(
            re.findall(
                r"<summary>(?:tampered|replayed|device-cloned|Values of .*)</summary>", text
            )
        )


def pages_of(browser: Browser, path: str) -> list[str]:
    """Return all pages of a log, by the links to older entries."""
    found, query = [], ""
    while len(found) < 50:
        status, text = browser.get(path + query)
        assert status == 200 and ('<a href="?">Newest</a>' in text) == bool(found)
        found.append(text)
        older = re.search(r'<a rel="next" href="(\?begin=[^"]+)">Older</a>', text)
        if older is None:
            return found
        query = html.unescape(older[1])
    raise AssertionError("the pages have no end")


def test_a_devices_history_is_shown_in_pages(browsers):
    found = pages_of(browsers["look"], f"/device/{DEVICE}/history")
    assert len(found) == 3
    assert [text.count("<tr>") - 1 for text in found[:2]] == [ROWS, ROWS]
    assert html.escape(MARKUP)[:4] in found[0]
    assert browsers["look"].get("/device/nobody/history")[0] == 404


def test_the_logs_are_shown_in_pages(browsers, fleet):
    """All that is kept, without a script: the newest entry first, the first row last."""
    with Store(fleet.database) as store:
        for number in range(205):
            store.add_audit("alice console", f"test {number:03}", "ok", durable=False)
    audit = "".join(pages_of(browsers["own"], "/audit"))
    numbers = [int(one) for one in re.findall(r"<tr><td[^>]*>(\d+)</td>", audit)]
    assert numbers == list(range(numbers[0], 0, -1)) and len(numbers) > 205
    log = pages_of(browsers["look"], "/log")
    assert len(log) > 1 and log[0].count("<tr>") == 101
    assert sum(text.count("temperature") for text in log) == 120
    for path in ("/log", "/audit", f"/device/{DEVICE}/history"):
        for wrong in ("<b>", "x" * 513, "event:1", "event:1:0_event:1:0"):
            assert browsers["own"].get(f"{path}?begin={quote(wrong)}")[0] == 400, (path, wrong)
    assert "Nothing is kept that is older" in browsers["look"].get("/log?begin=event:0:0")[1]
    assert browsers["look"].get("/audit?begin=1")[0] == 403


def test_groups_change(browsers, fleet):
    browser = browsers["update"]
    assert "upstairs" in result(browser, "/groups", group="upstairs", devices=f"{DEVICE}, {PLAIN}")
    with Store(fleet.database) as store:
        assert store.group("upstairs") == [PLAIN, DEVICE]
    result(browser, "/groups", group="upstairs", devices=PLAIN, remove="yes")
    assert "device-unknown" in result(browser, "/groups", group="upstairs", devices="nobody")
    assert "bad-name" in result(browser, "/groups", group="../..", devices=DEVICE)
    for devices in (" ", "a " * 201):
        text = result(browser, "/groups", group="upstairs", devices=devices)
        assert "control-malformed" in text
    text = result(browser, "/groups", group="upstairs", devices=DEVICE, remove="yes")
    assert '"count": 0' in text
    with Store(fleet.database) as store:
        assert "upstairs" not in store.groups()
        last = [row.action for row in store.latest_audit_rows(20)]
    assert f"group device group=upstairs devices={DEVICE}" not in last
    assert any("group=upstairs" in one and f"devices={DEVICE}" in one for one in last)


def test_bans_change(browsers, fleet):
    browser = browsers["command"]
    assert "203.0.113.9" in result(browser, "/bans", network="203.0.113.9", why=MARKUP[:-1])
    assert "user carol console" in browser.get("/bans")[1]
    text = result(browser, "/bans", network="203.0.113.9/32", lift="yes")
    assert '"ok": true' in text
    assert "203.0.113.9" not in re.sub("<section.*?</section>", "", browser.get("/bans")[1])
    assert "bad-argument" in result(browser, "/bans", network="everyone")


def test_rollouts_and_alarms(browsers):
    text = result(browsers["update"], "/rollouts", release="lock-9", kind="devices", target=DEVICE)
    assert "release-missing" in text
    assert "bad-name" in result(browsers["own"], "/rollouts", release="../keys")
    assert browsers["own"].get("/rollout/99")[0] == 404
    assert browsers["own"].post("/rollout/1/eat", token=browsers["own"].token())[0] == 404
    shown = browsers["look"].get("/rollout/1")[1]
    assert "2 Waiting" in shown and "waves 50, 100 per cent" in shown
    assert ADDRESS in result(browsers["own"], "/alarms")  # who may test them sees to whom


def is_recorded(fleet: Fleet, wanted: tuple[str, str, str]) -> bool:
    """Return whether the audit log gets the row: an outcome is written beside the answer."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with Store(fleet.database) as store:
            rows = [(row.who, row.action, row.outcome) for row in store.latest_audit_rows(9)]
        if wanted in rows:
            return True
        time.sleep(0.01)
    return False


def test_a_code_is_shown_on_demand_alone(browsers, service, fleet):
    browser = browsers["command"]
    put_code(service.authority, 300)
    status, text = browser.post(f"/device/{DEVICE}/code", token=browser.token())
    assert status == 200 and CODE in text and DURESS in text
    left, _, address = browser.headers["refresh"].partition(";url=")
    assert 0 < int(left) <= 300 and address == f"/device/{DEVICE}/story?unasked=1"
    assert browser.headers["cache-control"] == "no-store"
    assert is_recorded(fleet, ("carol console", f"code device={DEVICE}", "ok"))
    assert browser.get(f"/device/{DEVICE}/code")[0] == 405
    for path in PAGES:
        assert CODE not in numbers(browser.get(path)[1])
    put_code(service.authority, 0)  # its time is over
    assert "not-applicable" in result(browser, f"/device/{DEVICE}/code")
    put_code(service.authority, 300)
    assert "not-applicable" in result(browser, f"/device/{PLAIN}/code")  # of another device
    assert browser.post("/device/nobody/code", token=browser.token())[0] == 303


def test_a_code_ends_by_the_steady_clock():
    now = [100.0]
    console = ConsoleWay(lambda: now[0])
    console.send(Message("D1", "code", "console", "", 300, 400.0, "123456"))
    console.send(Message("D1", "alarm", "console", "", 300, 400.0, text="duress"))
    assert console.valid_code("D1")["left"] == 300 and console.valid_code("D2") is None
    now[0] = 400.0
    assert console.valid_code("D1") is None


def test_series_of_a_devices_events():
    events = [
        (1.0, "home", "t", '{"c": 1.5, "on": true, "text": "x", "n": null, "big": 1e999}'),
        (1.0, "other", "t", '{"c": 1.5}'),
        (2.0, "home", "t", '{"c": NaN, "deep": {"er": {"x": 7, "too": {"deep": 1}}}}'),
        (3.0, "home", "u", "not json"),
        (4.0, "home", "u", f'{{"{"k" * 65}": 1, "v": {10**400}, "w": [1]}}'),
    ]
    found, left_out = series_of(events)
    assert left_out == 0
    assert [(one["event"], one["field"], one["points"]) for one in found] == [
        ("t", "c", [[1.0, 1.5]]),
        ("t", "deep.er.x", [[2.0, 7]]),
        ("t", "on", [[1.0, 1]]),
    ]
    many = json.dumps({f"k{n:02}": n for n in range(30)})
    found, left_out = series_of([(float(n), "a", "t", many) for n in range(600)])
    assert (len(found), left_out, len(found[0]["points"])) == (24, 6, 500)
    assert found[0]["points"][-1][0] == 599.0


@pytest.mark.parametrize("page", [-1, 1001, True, "1", None, 1.0])
def test_a_page_is_a_number_within_bounds(page):
    assert paged({}, [1])["rows"] == [1]
    with refused("control-malformed"):
        paged({"page": page}, [])


def page_in_this_process(fleet, browser: Browser, path: str) -> str:
    """Return a page as the console's process would make it, with what a test changed here."""
    app = build(fleet.root / SOCKET, "home", "127.0.0.1", 1, False)
    headers = [(b"host", b"127.0.0.1:1"), (b"cookie", f"warden={browser.cookie}".encode())]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    scope |= {"query_string": b"", "raw_path": path.encode(), "root_path": ""}
    sent: list[bytes] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message.get("body", b""))

    asyncio.run(app(scope, receive, send))
    return b"".join(sent).decode()


def test_without_uplot_a_page_shows_the_values(browsers, fleet, monkeypatch, tmp_path):
    browser = browsers["look"]
    device = browser.get(f"/device/{DEVICE}")[1]
    assert "31.9" in device and ("/static/plots.js" in device) == assets.plots_there()
    assert browser.get("/assets/other.js")[0] == 404
    monkeypatch.setattr(assets, "_FOLDERS", (tmp_path,))
    assets.folder.cache_clear()
    try:
        device = page_in_this_process(fleet, browser, f"/device/{DEVICE}")
        assert "uPlot is missing" in device and "31.9" in device and "plots.js" not in device
        assert "uplot" not in page_in_this_process(fleet, browser, "/assets/uplot.js")
    finally:
        assets.folder.cache_clear()


# --- in a real browser: axe, a phone's width, plots, codes, an authority away --------------------


@pytest.fixture(scope="module")
def chromium_browser(service: Service) -> Iterator[Any]:
    with chromium() as made:
        yield made


@contextmanager
def logged_in(browser: Any, fleet: Fleet, port: int, name: str, **options: Any) -> Iterator[Any]:
    """Yield a page of a new session."""
    plain = Browser(port)
    let_in(fleet, plain, name)
    base = f"http://127.0.0.1:{port}"
    with page_of(browser, base_url=base, **options) as page:
        page.context.add_cookies([{"name": "warden", "value": plain.cookie, "url": base}])
        yield page


def take_picture(page: Any, path: str) -> None:
    """Replace a picture of the documents."""
    name, selector = PICTURES[path]
    file = ROOT / "docs" / "images" / f"console-{name}.png"
    if selector:
        page.locator(".plot canvas").first.wait_for()
        page.locator(selector).screenshot(path=file)
    else:
        page.screenshot(path=file)


def check_page(page: Any, path: str) -> None:
    """Look at a page as it is at a desk, then dark and on a phone."""
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="light")
    page.goto(path)
    if path in AXE:
        check_accessible(page)
    if os.environ.get("SCREENSHOTS") and path in PICTURES:
        take_picture(page, path)
    page.set_viewport_size(NARROW)
    page.emulate_media(color_scheme="dark")
    if path in DARK:
        check_accessible(page)
    over = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
    assert over <= 0, f"{path} is {over} pixels too wide"


def test_each_page_is_accessible_and_fits(chromium_browser, fleet, port, service):
    with logged_in(chromium_browser, fleet, port, "alice", bypass_csp=True) as page:
        for path in (*PAGES, "/audit"):
            check_page(page, path)
        put_code(service.authority)
        page.goto(STORY)
        page.get_by_role("button", name="Show the code").click()
        page.get_by_text(CODE).wait_for()
        check_accessible(page)


def test_a_page_by_keyboard(chromium_browser, fleet, port):
    with logged_in(chromium_browser, fleet, port, "bob") as page:
        page.goto("/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") == "search"
        page.keyboard.type("front")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?search=front*")
        assert page.locator("#devices tbody tr").count() == 1


def test_telemetry_is_drawn_and_goes_on(chromium_browser, fleet, port, service):
    """Under the policy that forbids inline styles and scripts, too."""
    if not assets.plots_there():
        pytest.skip("no uPlot: npm is missing")
    with logged_in(chromium_browser, fleet, port, "bob") as page:
        page.goto(f"/device/{DEVICE}")
        page.locator("#link", has_text="live").wait_for()
        page.locator(".plot canvas").first.wait_for()
        section = page.locator('section.series[data-field="c"]')
        drawn = section.locator("canvas").evaluate("one => one.toDataURL()")
        body = {"c": 77.5, "text": "<b>"}
        event = FleetEvent("event", DEVICE, "home", "temperature", body=body)
        service.authority.ask(lambda engine: engine.notify(event))
        section.locator(".newest", has_text="77.5").wait_for()
        page.wait_for_function(
            "before => document.querySelector('[data-field=c] canvas').toDataURL() !== before",
            arg=drawn,
        )
        section.locator("summary").click()
        rows = section.locator("tbody tr")
        assert rows.count() == 20 and "77.5" in rows.first.inner_text()


@pytest.mark.parametrize("jump_s", [-86400, 301], ids=["back", "forward"])
def test_a_code_goes_from_its_page(chromium_browser, fleet, port, service, jump_s):
    """Whatever the browser's clock does meanwhile; without a script too: its header tells."""
    with logged_in(chromium_browser, fleet, port, "carol") as page:
        put_code(service.authority)
        page.goto(STORY)
        page.clock.install()
        page.get_by_role("button", name="Show the code").click()
        page.locator("#left", has_text="min").wait_for()  # the script counts
        page.clock.set_system_time(time.time() + jump_s)
        page.clock.run_for(2000)
        if jump_s < 0:
            assert page.get_by_text(CODE).is_visible()
            page.clock.run_for(300_000)
        page.wait_for_url(f"**/device/{DEVICE}/story")
        assert CODE not in numbers(page.content())


def test_the_authority_is_away_and_comes_back(chromium_browser, fleet, port, authority):
    """The last test of this module: it ends the authority of the others."""
    with logged_in(chromium_browser, fleet, port, "bob") as page:
        page.goto("/")
        page.locator("#link", has_text="live").wait_for()
        page.clock.install()
        authority.close()
        page.locator("#link.lost", has_text="no connection").wait_for()
        page.clock.set_system_time(time.time() - 86400)  # a clock that jumps stops nothing
        start(authority, fleet, port)
        page.clock.run_for(5000)
        page.locator("#link", has_text="live").wait_for()
        page.get_by_role("heading", name="Devices").wait_for()
