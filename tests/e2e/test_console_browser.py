"""The console in a real browser beside a real device: a log-in, the device comes, a code is typed
at its keypad, it obeys, refuses forgeries, and is updated; axe."""

import os
import secrets
from pathlib import Path

import pytest
from browser_kit import ROOT, check_accessible, chromium, page_of
from fleet_kit import DEVICE, TYPE, World
from otp_kit import Keypad, other
from warden_host.engine.request import FORGERIES
from warden_host.protocol import policy
from warden_host.release import release, signing_key
from warden_host.service.console import WebAddress
from warden_host.service.run import serving
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from web_kit import HASH, PASSWORD, SECRET, code_now

APP = """import asyncio
from warden import Device

device = Device.from_board(log=lambda code, text: print("log", code, text))
device.health(lambda: True)


@device.command("set_relay")
def set_relay(args):
    return {{"on": args["on"]}}


async def main():
    print("version", "{version}")
    await device.start()
    while True:
        await device.publish("temperature", {{"c": 20}})
        await asyncio.sleep(60)


asyncio.run(main())
"""


def source(folder: Path, version: str) -> Path:
    made = folder / version
    made.mkdir()
    (made / "app.py").write_text(APP.format(version=version))
    return made


@pytest.mark.usefixtures("umqtt_path")
def test_from_a_code_to_an_update(tmp_path: Path) -> None:
    world = World(tmp_path)
    passphrase = secrets.token_hex(16).encode()
    key = signing_key.make(world.fleet, "release", "p256", passphrase)
    home = world.provision(source=source(tmp_path, "1") / "app.py", otp=policy.otp())
    private = signing_key.open_private(world.fleet, key, passphrase)
    with Store(world.fleet.database) as store:
        store.put_operator(Operator("alice", 1, "alice", ("own",)))
        store.put_web_login(WebLogin("alice", HASH, SECRET))
        order = release.Order(TYPE, "2", {"app": source(tmp_path, "2")})
        made = release.make(world.fleet, store, order, private, key.algorithm)
    with (
        chromium() as browser,
        serving(world.fleet, world.news.add, web=WebAddress("127.0.0.1", 0)) as service,
        page_of(browser, bypass_csp=True, viewport={"width": 1000, "height": 700}) as page,
    ):
        assert service.console is not None
        page.goto(service.console.url)
        check_accessible(page)  # before the code, which has half a minute
        page.get_by_label("Name").fill("alice")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Code of the authenticator").fill(code_now())
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Devices").wait_for()
        with Keypad(home) as board:
            page.locator(".state.online").wait_for()
            board.asks()
            page.get_by_role("link", name=DEVICE).click()
            page.get_by_role("link", name="Its code").click()
            page.get_by_role("button", name="Show the code").click()
            code = page.locator("p.code").inner_text()
            page.get_by_role("link", name="Back").click()
            page.locator("#link", has_text="live").wait_for()
            board.enter(other(code))
            page.get_by_text("Typed: 1 of 3 times.").wait_for()  # by itself
            board.enter(code)
            page.get_by_text("The right code was typed: the gate opened.").wait_for()
            page.get_by_text("Typed: 2 of 3 times.").wait_for()
            page.locator("#events li", has_text="the right code was typed").wait_for()

            page.get_by_role("link", name="All about").click()
            page.get_by_label("Command", exact=True).fill("set_relay")
            page.get_by_label("Arguments").fill('{"on": 1}')
            page.get_by_role("button", name="then each forgery").click()
            table = page.get_by_role("table", name="The genuine command and each forgery of it")
            table.wait_for()
            assert table.locator("td.bad").count() == 0, table.inner_text()
            assert table.locator("td.good").count() == len(FORGERIES) + 1
            for verdict in FORGERIES.values():
                assert verdict in table.inner_text()
            check_accessible(page)
            if os.environ.get("SCREENSHOTS"):
                page.locator("section.verdict").screenshot(
                    path=ROOT / "docs" / "images" / "console-forgeries.png"
                )

            page.get_by_role("link", name="Rollouts").click()
            page.get_by_label("Release", exact=True).fill(made.name)
            page.get_by_label("Type, group or devices").fill(TYPE)
            page.get_by_role("button", name="Start").click()
            page.locator("td.word", has_text="Testing").wait_for()
            assert board.ends() == 3
            board.start()
            board.wait_line("version 2")
            page.locator("td.word", has_text="Accepted").wait_for()
            page.locator("#link", has_text="the rollout is done").wait_for()
            page.reload()
            page.get_by_text("1 Accepted", exact=True).wait_for()
