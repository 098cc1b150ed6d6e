"""The console in a browser beside a real device: it comes, obeys, refuses forgeries; markup."""

import html
import json
import re
from pathlib import Path

import pytest
from fleet_kit import DEVICE, Board, World
from warden_host.service.console import WebAddress
from warden_host.service.run import serving
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from web_kit import Browser, let_in

MARKUP = "<script>alert('x')</script>"


def verdict(text: str) -> str:
    found = re.search(r'<section class="verdict (.*?)</section>', text, re.DOTALL)
    assert found is not None, text
    return html.unescape(found[1])


@pytest.mark.usefixtures("umqtt_path")
def test_an_operator_and_a_device(tmp_path: Path) -> None:
    world = World(tmp_path)
    home = world.provision(commands=("set_relay", "get_relay"))
    with Store(world.fleet.database) as store:
        for name, uid, role in (("alice", 1, "own"), ("carol", 2, "command"), ("bob", 3, "look")):
            store.put_operator(Operator(name, uid, name, (role,)))
        store.add_event(DEVICE, "authority", "note", json.dumps({"text": MARKUP}), 0, b"")
    with serving(world.fleet, world.news.add, web=WebAddress("127.0.0.1", 0)) as service:
        assert service.console is not None
        browser = Browser(service.console.port)
        let_in(world.fleet, browser, "carol")
        with Board(home):
            world.fleet_event("session", device=DEVICE)
            text = browser.get("/")[1]
            assert f'<a href="/device/{DEVICE}">' in text and ">online<" in text
            page = f"/device/{DEVICE}"
            text = browser.get(page)[1]
            assert MARKUP not in text and html.escape(MARKUP, quote=False)[:14] in text
            assert "Forge it" not in text

            def send(**fields: str) -> tuple[int, str]:
                asked = {
                    "app": "authority",
                    "command": "set_relay",
                    "args": '{"on": 1}',
                    "forge": "",
                }
                asked |= {"token": browser.token(page)} | fields
                status, text = browser.post(f"{page}/command", **asked)
                if status != 303:
                    return status, text
                status, text = browser.get(browser.headers["location"])
                return status, verdict(text)

            status, text = send()
            assert status == 200 and '"result": {"on": 1}' in text
            for bad in ("{", "[1]", '{"on": ' + "9" * 5000 + "}", '{"a":' * 40 + "1" + "}" * 40):
                status, text = send(args=bad)
                assert status == 200 and "bad-json" in text
            status, text = send(command=MARKUP)
            assert status == 200 and "bad-name" in text
            status, text = send(forge="replay")  # which takes the role own
            assert "role-missing" in text
            let_in(world.fleet, browser, "alice")
            status, text = send(forge="replay")
            assert "The device refused it: replayed" in text
            let_in(world.fleet, browser, "bob")
            assert "Arguments" not in browser.get(page)[1]
            status, text = send()
            assert "role-missing" in text
