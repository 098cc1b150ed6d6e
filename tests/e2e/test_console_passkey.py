"""Passkeys in a real browser, with Chromium's virtual authenticator."""

import json
from pathlib import Path
from typing import Any

from browser_kit import check_accessible, chromium, page_of
from host_kit import new_fleet
from warden_host.cli import main
from warden_host.service.console import WebAddress
from warden_host.service.run import serving
from warden_host.store.store import Store

_VIRTUAL = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


def code_of(fleet: Any, capsys: Any) -> str:
    capsys.readouterr()
    command = ["--fleet", str(fleet.root), "operator", "login", "alice", "--passkey", "--json"]
    assert main.run(command) == 0
    code: str = json.loads(capsys.readouterr().out)["code"]
    return code


def test_an_operator_far_away(tmp_path: Path, capsys: Any) -> None:
    """Registered by a code, logged in by the passkey, a clone found, the passkey removed."""
    fleet = new_fleet(tmp_path)
    add = ["operator", "add", "alice", "--web-only", "--role", "look"]
    assert main.run(["--fleet", str(fleet.root), *add]) == 0
    with (
        chromium() as browser,
        serving(fleet, lambda event: None, web=WebAddress("127.0.0.1", 0)) as service,
        page_of(browser, bypass_csp=True) as page,
    ):
        assert service.console is not None
        tool = page.context.new_cdp_session(page)
        tool.send("WebAuthn.enable")
        made = tool.send("WebAuthn.addVirtualAuthenticator", {"options": _VIRTUAL})
        page.goto(service.console.url + "passkey")  # by address, which is no relying party
        page.locator("main").get_by_role("link").click()
        page.wait_for_url(f"http://localhost:{service.console.port}/passkey")
        page.get_by_label("Name", exact=True).fill("alice")
        page.get_by_label("Code").fill("AAAA-BBBB-CCCC-DDDD")
        page.get_by_label("A name for the passkey").fill("laptop")
        page.get_by_role("button", name="Register").click()
        page.get_by_text("the name or the code is wrong").wait_for()
        check_accessible(page)
        page.get_by_label("Code").fill(code_of(fleet, capsys))
        page.get_by_role("button", name="Register").click()
        page.wait_for_url("**/login")
        check_accessible(page)
        page.get_by_role("button", name="Log in with a passkey").click()
        page.get_by_role("heading", name="Devices").wait_for()
        page.get_by_role("link", name="alice (look)").click()
        page.get_by_role("row", name="laptop").first.wait_for()
        check_accessible(page)
        page.get_by_label("A name for the passkey").fill("again")
        page.get_by_role("button", name="Register a passkey").click()
        page.get_by_text("excluded").or_(page.get_by_text("already")).first.wait_for()
        # Another one with the same key counts on from an older number.
        found = tool.send("WebAuthn.getCredentials", made)["credentials"][0]
        tool.send("WebAuthn.clearCredentials", made)
        copy = {**found, "signCount": 0}
        tool.send("WebAuthn.addCredential", {**made, "credential": copy})
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Log in with a passkey").click()
        page.get_by_text("counted back").wait_for()
        with Store(fleet.database) as store:
            assert store.passkeys("alice")[0].cloned
            assert store.latest_audit_rows(1)[0].outcome == "passkey-cloned"
