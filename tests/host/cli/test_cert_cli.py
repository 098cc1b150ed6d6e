"""`warden cert` before it reaches a broker: what it shows."""

import json

from cli_kit import fails
from warden_host.cli import main
from warden_host.store.store import Store

# The stand-in for MicroPython makes no key; one for RSA is made here.
SIMULATED = ("--sim", "--certificate-key", "rsa")


def test_list_on_a_narrow_screen(folder, capsys):
    assert main.run(["cert", "init", "--no-passphrase"]) == 0
    settings = folder / "warden.toml"
    settings.write_text(settings.read_text() + '\n[connection]\nauth = "certificate"\n')
    capsys.readouterr()
    assert main.run(["provision", "front-door", "--type", "lock", *SIMULATED]) == 0
    assert "it logs in by its certificate" in capsys.readouterr().out
    assert main.run(["cert", "list"]) == 0
    shown = capsys.readouterr().out
    # Whole, and without an emoji in the place of :lock:
    assert "d:lock:front-door" in shown and "valid" in shown and "…" not in shown
    assert main.run(["cert", "list", "front-door", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["name"], row["kind"], row["state"]) == ("d:lock:front-door", "device", "valid")


def test_one_that_a_renewal_tries(folder, capsys):
    assert main.run(["cert", "init", "--no-passphrase"]) == 0
    settings = folder / "warden.toml"
    settings.write_text(settings.read_text() + '\n[connection]\nauth = "certificate"\n')
    assert main.run(["provision", "D1", *SIMULATED]) == 0
    with Store(folder / "fleet.db") as store:
        leaf = store.certificates("D1")[0].der
        with store.transaction():
            store.add_rotation("D1", {"certificate": [leaf, b"", None]})
    capsys.readouterr()
    assert main.run(["cert", "list", "D1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "unproven"


def test_a_device_without_a_certificate_has_none_renewed(folder, capsys):
    """No passphrase is asked for: this fleet has no CA for devices."""
    assert main.run(["provision", "D1", *SIMULATED]) == 0
    fails(capsys, "not-applicable", "cert", "renew", "D1")
