"""The simulator in a real browser: two devices side by side, with real drivers of displays."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import check_accessible, chromium, page_of
from fleet_kit import PATIENCE_S, World
from otp_kit import Owner, other
from simulator_kit import Simulator, provision_with, simulator
from warden_host.engine.request import Request
from warden_host.protocol import policy
from warden_host.sim import flash_files

# Of docs/simulator.md; made where SCREENSHOTS is set.
PICTURES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    provision_with(made, "front", "hd44780", otp=policy.otp(retries=5))
    provision_with(made, "back", "ssd1306", otp=policy.otp(retries=5))
    with made:
        yield made


def board(page: Any, name: str) -> Any:
    return page.get_by_role("article", name=name)


def shows(page: Any, device: str, text: str) -> None:
    """Wait until the display is read so to a person with a screen reader."""
    board(page, device).locator(".shown", has_text=f"Display: {text}").wait_for()


def asks(page: Any, device: str, line: str = "") -> None:
    """Wait until the gate asks for a code, however many minutes it still has, and shows line."""
    text = re.compile(rf"Display: Code\? \d min{line and ' / '}{re.escape(line)}")
    board(page, device).locator(".shown", has_text=text).wait_for()


def press(page: Any, device: str, keys: str) -> None:
    names = {"*": "star", "#": "hash"}
    keypad = board(page, device).get_by_role("group", name="Keypad")
    for key in keys:
        keypad.get_by_role("button", name=names.get(key, key), exact=True).click()


def logged(page: Any, device: str, text: str, mark: str = "") -> None:
    board(page, device).locator(f".log li{mark}", has_text=text).first.wait_for()


def test_two_devices_side_by_side(world: World) -> None:
    with chromium() as browser, simulator(world, "front", "back") as running:
        size = {"width": 840, "height": 480}
        with page_of(browser, bypass_csp=True, viewport=size) as page:
            gate(world, running, page)
            relay_and_refusal(world, page)
            network(world, page)
            power(page)
            flash(world, page)
            check_accessible(page)
            page.set_viewport_size({"width": 360, "height": 740})
            page.emulate_media(color_scheme="dark")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            check_accessible(page)
        used_link(running, browser)


def gate(world: World, running: Simulator, page: Any) -> None:
    """A wrong code, then the right one, on the drawn keypad of one of two devices."""
    front, back = Owner(world), Owner(world)
    page.goto(running.url)
    asks(page, "front")
    asks(page, "back")  # read from the pixels
    assert page.url == f"http://127.0.0.1:{running.port}/"
    code = front.code("front")
    press(page, "front", other(code))
    asks(page, "front", "******")
    cells = board(page, "front").locator(".cells div")
    assert cells.nth(1).inner_text().split() == ["*"] * 6
    if os.environ.get("SCREENSHOTS"):
        page.screenshot(path=PICTURES / "simulator.png")
    press(page, "front", "#")
    asks(page, "front", "Wrong code")
    # By a keyboard, as a person types who has the keypad's focus.
    board(page, "front").get_by_role("button", name="5", exact=True).focus()
    page.keyboard.type(code + "#")
    logged(page, "front", "gate-open otp")
    shows(page, "front", "Open")
    # The other device heard nothing of it.
    asks(page, "back")
    back_code = back.code("back")
    press(page, "back", back_code + "#")
    logged(page, "back", "gate-open otp")
    canvas = board(page, "back").locator("canvas.pixels")
    lit = canvas.evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.filter((value, at) => at % 4 === 0 && value > 100).length"
    )
    assert 20 < lit < 2000


def relay_and_refusal(world: World, page: Any) -> None:
    """Outputs follow commands; a forgery is refused, and the log says so."""
    pins = board(page, "front").get_by_role("list", name="Outputs")
    pins.get_by_text("LED: high").wait_for()
    pins.get_by_text("15: low").wait_for()
    world.command("set_relay", "front", on=1)
    pins.get_by_text("15: high").wait_for()
    assert world.authority is not None
    answer = world.authority.command(
        Request("front", "get_relay", {}, forge="tamper", timeout_s=PATIENCE_S)
    )
    assert answer["verdict"] == "tampered"
    logged(page, "front", "refused: incident tampered get_relay", ".refused")


def network(world: World, page: Any) -> None:
    """The network goes: the link is lost. It comes: the session stands again."""
    front = board(page, "front")
    front.get_by_label("It is").select_option("down")
    front.locator("form.network").get_by_role("button", name="Set").click()
    logged(page, "front", "dns-failed", ".network")
    world.fleet_event("left", device="front")
    front.get_by_label("It is").select_option("up")
    front.get_by_label("Delay").fill("5")
    front.locator("form.network").get_by_role("button", name="Set").click()
    world.fleet_event("session", device="front")
    world.command("set_relay", "front", on=0)


def power(page: Any) -> None:
    """The power goes in the middle of a write, and the device starts whole."""
    back = board(page, "back")
    back.get_by_role("button", name="Cut the power").click()
    back.locator(".power", has_text="off: the power was cut").wait_for()
    shows(page, "back", "empty")
    back.get_by_role("list", name="Outputs").get_by_text("set none").wait_for()
    # Which operation is a write depends on what the cut before it left in the vault's folder, and
    # a start that the watchdog ended took some of those that were counted.
    for number in range(1, 13):
        if "write /data/~staged" in cut_within(back, number):
            break
    else:
        raise AssertionError("a start did not write to the vault")
    back.get_by_role("button", name="Switch on").click()
    asks(page, "back")


def cut_within(back: Any, number: int) -> str:
    """Cut the power within that operation from now. Returns: the reason that is shown.

    Of what start that operation is has no matter: on a busy machine the watchdog ends one."""
    back.get_by_label("Cut it within").fill(str(number))
    back.get_by_role("button", name="Arm", exact=True).click()
    back.locator(".armed", has_text=f"armed: {number} more").wait_for()
    back.get_by_role("button", name="Switch on").click()
    back.locator(".armed:empty").wait_for(state="attached")
    power = back.locator(".power", has_text="off: cut within operation ")
    return str(power.inner_text())


def flash(world: World, page: Any) -> None:
    """The viewer shows the very bytes of the flash."""
    home = world.fleet.simulated("front")
    for number in range(flash_files.MAX_FILES):
        (home / "root" / f"many-{number}").touch()
    front = board(page, "front")
    front.get_by_text("operations since").click()
    front.get_by_role("button", name="/many-0", exact=True).wait_for()
    assert front.locator(".files tbody tr").count() == flash_files.MAX_FILES
    front.get_by_role("button", name="More files").click()
    front.get_by_role("button", name="/data/key").wait_for()
    front.get_by_role("button", name="Files before these").click()
    front.get_by_role("button", name="/many-0", exact=True).wait_for()
    for number in range(flash_files.MAX_FILES):
        (home / "root" / f"many-{number}").unlink()
    front.get_by_role("button", name="More files").click()
    front.get_by_role("button", name="Files before these").click()
    front.get_by_role("button", name="/data/key").click()
    front.locator(".opened", has_text="/data/key").wait_for()
    shown = front.locator(".bytes").inner_text()
    digits = "".join(line[8:56].replace(" ", "") for line in shown.splitlines())
    assert bytes.fromhex(digits) == (home / "root" / "data" / "key").read_bytes()
    names = front.locator(".files").inner_text()
    assert "/fuses" not in names and "/app/app.py" in names
    if os.environ.get("SCREENSHOTS"):
        front.locator("details.flash").screenshot(path=PICTURES / "simulator-flash.png")


def used_link(running: Simulator, browser: Any) -> None:
    """A link that was used opens nothing; the next one does."""
    with page_of(browser) as page:
        page.goto(running.url)
        page.locator("#link", has_text="newest link").wait_for()
        assert not page.get_by_role("article").count()
        page.goto(running.next_link())
        board(page, "back").wait_for()
