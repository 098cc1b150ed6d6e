"""The console in a real browser: log in, a device comes, obeys, refuses a forgery; axe."""

from pathlib import Path

import pytest
from browser_kit import check_accessible, chromium, page_of
from fleet_kit import DEVICE, Board, World
from warden_host.service.console import WebAddress
from warden_host.service.run import serving
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from web_kit import HASH, PASSWORD, SECRET, code_now


@pytest.mark.usefixtures("umqtt_path")
def test_a_day_in_a_browser(tmp_path: Path) -> None:
    world = World(tmp_path)
    home = world.provision(commands=("set_relay", "get_relay"))
    with Store(world.fleet.database) as store:
        store.put_operator(Operator("alice", 1, "alice", ("own",)))
        store.put_web_login(WebLogin("alice", HASH, SECRET))
    with (
        chromium() as browser,
        serving(world.fleet, world.news.add, web=WebAddress("127.0.0.1", 0)) as service,
        page_of(browser, bypass_csp=True) as page,
    ):
        assert service.console is not None
        page.goto(service.console.url)
        page.get_by_label("Name").fill("alice")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Code of the authenticator").fill(code_now())
        check_accessible(page)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Devices").wait_for()
        check_accessible(page)
        with Board(home):
            page.locator(".state.online").wait_for()
            page.get_by_role("link", name=DEVICE).click()
            page.get_by_label("Command", exact=True).fill("set_relay")
            page.get_by_label("Arguments").fill('{"on": 1}')
            page.get_by_role("button", name="Send").click()
            page.locator("section.verdict", has_text='"on": 1').wait_for()
            check_accessible(page)
