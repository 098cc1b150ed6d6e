"""Passkeys in a real browser, with Chromium's virtual authenticator."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from browser_kit import check_accessible, chromium, page_of
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from host_kit import new_fleet
from port_kit import free_ports
from warden_host.cli import main
from warden_host.devices import setup
from warden_host.fleet import pki
from warden_host.fleet.fleet import BrokerSettings, Settings
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


HOST, BESIDE = "console.test", "mail.console.test"
# What a page of another host, whose domain is the console's, would get from a passkey.
_GET = """async options => {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return (await navigator.credentials.get({publicKey})).toJSON();
}"""
_POST = """async ([path, body]) => {
  const sent = {method: "POST", headers: {"Content-Type": "application/json"},
    body: JSON.stringify(body)};
  const answer = await fetch(path, sent);
  return [answer.status, await answer.json()];
}"""


def add_alice(fleet: Any) -> None:
    add = ["operator", "add", "alice", "--web-only", "--role", "look"]
    assert main.run(["--fleet", str(fleet.root), *add]) == 0


def with_authenticator(page: Any) -> tuple[Any, Any]:
    """Give a page an authenticator; return the tool of it, and its ID as requests name it."""
    tool = page.context.new_cdp_session(page)
    tool.send("WebAuthn.enable")
    return tool, tool.send("WebAuthn.addVirtualAuthenticator", {"options": _VIRTUAL})


def register(page: Any, code: str) -> None:
    page.get_by_label("Name", exact=True).fill("alice")
    page.get_by_label("Code").fill(code)
    page.get_by_label("A name for the passkey").fill("laptop")
    page.get_by_role("button", name="Register").click()


def trusting(fleet: Any) -> tuple[str, ...]:
    """Return arguments of a browser that finds the console's hosts and trusts its certificate."""
    made = pki.load_certificate(fleet.keys / "server.crt").public_key()
    key = made.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    mark = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return (
        f"--host-resolver-rules=MAP {HOST} 127.0.0.1,MAP *.{HOST} 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={mark}",
    )


def test_over_tls_under_a_host_name(tmp_path: Path, capsys: Any) -> None:
    """The passkey is the host's. A page beside the console, of its domain, can't log in by it."""
    ports = free_ports(2)
    broker = BrokerSettings(
        port=ports[0], device_port=ports[0], admin_port=ports[1], names=("localhost", HOST)
    )
    fleet = setup.new_fleet(tmp_path / "fleet", Settings(broker, ()))
    add_alice(fleet)
    with (
        chromium(*trusting(fleet)) as browser,
        serving(fleet, lambda event: None, web=WebAddress(HOST, 0, "127.0.0.1")) as service,
        page_of(browser) as page,
    ):
        assert service.console is not None
        url = service.console.url
        assert url == f"https://{HOST}:{service.console.port}/"
        tool, made = with_authenticator(page)
        page.goto(url + "passkey")
        register(page, code_of(fleet, capsys))
        page.wait_for_url("**/login")
        (known,) = tool.send("WebAuthn.getCredentials", made)["credentials"]
        assert known["rpId"] == HOST

        options = page.evaluate(_POST, ["/passkey/ask", {}])[1]["options"]
        page.route(f"https://{BESIDE}/", lambda route: route.fulfill(body="a page beside it"))
        page.goto(f"https://{BESIDE}/")
        stolen = page.evaluate(_GET, options)
        page.goto(url + "login")
        status, answer = page.evaluate(_POST, ["/passkey/login", {"credential": stolen}])
        assert (status, answer["error"]) == (403, "this passkey does not log in here")
        own = page.evaluate(_GET, options)  # the question is still open, for the own page
        status, answer = page.evaluate(_POST, ["/passkey/login", {"credential": own}])
        assert (status, answer) == (200, {"to": "/"})

        page.goto(url + "login")
        page.get_by_role("button", name="Log in with a passkey").click()
        page.get_by_role("heading", name="Devices").wait_for()
        (cookie,) = (one for one in page.context.cookies() if one["name"] == "__Host-warden")
        assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
        page.goto(url + "account")
        page.get_by_label("A name for the passkey").fill("again")
        page.get_by_role("button", name="Register a passkey").click()
        page.get_by_text("excluded").or_(page.get_by_text("already")).first.wait_for()
        page.get_by_role("button", name="Remove laptop").click()
        page.wait_for_url("**/login")  # its session ended with it


def test_an_operator_far_away(tmp_path: Path, capsys: Any) -> None:
    """Registered by a code, logged in by the passkey, a clone found, the passkey removed."""
    fleet = new_fleet(tmp_path)
    add_alice(fleet)
    with (
        chromium() as browser,
        serving(fleet, lambda event: None, web=WebAddress("127.0.0.1", 0)) as service,
        page_of(browser, bypass_csp=True) as page,
    ):
        assert service.console is not None
        tool, made = with_authenticator(page)
        page.goto(service.console.url + "passkey")  # by address, which is no relying party
        page.locator("main").get_by_role("link").click()
        page.wait_for_url(f"http://localhost:{service.console.port}/passkey")
        register(page, "AAAA-BBBB-CCCC-DDDD")
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
