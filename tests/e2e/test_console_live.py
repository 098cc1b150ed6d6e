"""The console's pages in a real browser: roles, and what comes while a page is away."""

from collections.abc import Iterator
from typing import Any

import console_kit
import pytest
from browser_kit import chromium, page_of
from port_kit import free_ports
from warden_host.engine.events import FleetEvent
from warden_host.service.console import WebAddress
from warden_host.service.run import Service, serving
from web_kit import PASSWORD, code_now

HIDE = """hidden => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


def log_in(page: Any, url: str, name: str) -> None:
    """Log in as somebody whose codes were never used."""
    page.goto(url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Code of the authenticator").fill(code_now())
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Devices").wait_for()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A fleet with something on each page."""
    fleet = console_kit.fill(tmp_path_factory.mktemp("filled"))
    with serving(fleet, web=WebAddress("127.0.0.1", free_ports(1)[0])) as made:
        yield made


def url_of(service: Service, path: str = "") -> str:
    assert service.console is not None
    return service.console.url + path


def test_a_role_that_may_look_alone(browser: Any, filled: Service) -> None:
    with page_of(browser) as page:
        log_in(page, url_of(filled), "bob")
        page.goto(url_of(filled, f"device/{console_kit.DEVICE}"))
        page.get_by_role("heading", name="History").wait_for()
        assert page.get_by_role("heading", name="Command").count() == 0
        assert page.get_by_role("button", name="Open its gate").count() == 0
        assert page.get_by_role("link", name="Audit log").count() == 0
        page.goto(url_of(filled, "audit"))
        page.get_by_text("audit takes the role own").wait_for()


def test_pages_work_without_the_script(browser: Any, filled: Service) -> None:
    """They do what forms and links do, and announce no stream that never comes."""
    with page_of(browser, java_script_enabled=False) as page:
        log_in(page, url_of(filled), "alice")
        page.locator("#link").wait_for(state="hidden")
        page.get_by_role("link", name=console_kit.DEVICE).click()
        page.get_by_role("heading", name="History").wait_for()
        page.locator("#link").wait_for(state="hidden")
        page.get_by_label("Command", exact=True).fill("set_relay")
        page.get_by_role("button", name="Send", exact=True).click()
        page.locator("section.verdict").wait_for()


def test_a_page_that_is_away_misses_nothing(browser: Any, filled: Service) -> None:
    """Hidden for a while; and its server ended and came back: it goes on where it was."""

    def announce(text: str) -> None:
        filled.announce(FleetEvent("event", console_kit.DEVICE, name="door", text=text))

    with page_of(browser) as page:
        log_in(page, url_of(filled), "uma")
        link, first = page.locator("#link"), page.locator("#events li").first
        link.get_by_text("live", exact=True).wait_for()
        page.evaluate("kept = true")
        announce(console_kit.MARKUP)
        first.get_by_text(console_kit.MARKUP.replace("\u202e", "\ufffd")).wait_for()
        assert page.locator("#events img").count() == 0
        page.evaluate(HIDE, True)
        announce("while hidden")
        page.evaluate(HIDE, False)
        first.get_by_text("while hidden").wait_for()
        assert filled.console is not None
        filled.console.process._process.kill()
        link.get_by_text("no connection to the fleet: trying again").wait_for()
        announce("without a server")
        filled.console.process._started -= 60
        filled.check()
        first.get_by_text("the console is started again").wait_for()
        page.locator("#events li", has_text="without a server").wait_for()
        link.get_by_text("live", exact=True).wait_for()
        assert page.evaluate("kept")
        assert page.locator("#events li", has_text="while hidden").count() == 1


def test_a_page_that_loads_itself_again_is_no_click(browser: Any, filled: Service) -> None:
    """It missed more than the fleet keeps: then it is loaded anew, and the session stays idle."""

    def used() -> float:
        assert filled.console is not None
        return max(float(row[-1]) for row in filled.console.sessions.export())

    lost = 'data: {"after": 0, "mark": 1, "lost": 9, "events": []}\n\n'
    with page_of(browser) as page:
        log_in(page, url_of(filled), "carol")
        away = "**/live?*", lambda route: route.abort()
        page.route(*away)
        page.get_by_role("link", name=console_kit.DEVICE).click()
        page.get_by_text("no connection to the fleet").wait_for()
        before = used()
        with page.expect_event("load"):
            # Before the other way ends: no try of the page comes between both.
            page.route(
                "**/live?*",
                lambda route: route.fulfill(content_type="text/event-stream", body=lost),
                times=1,
            )
            page.unroute(*away)
        page.locator("#link").get_by_text("live", exact=True).wait_for()
        assert used() == before
        assert page.url == url_of(filled, f"device/{console_kit.DEVICE}")
        page.reload()
        page.locator("#link").get_by_text("live", exact=True).wait_for()
        assert used() > before
