"""Devices that log in by a certificate: real mosquitto, real firmware, real commands of `warden`.

One fleet is served for all tests here, and each test has a device of its own.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_kit import PATIENCE_S, PROBE, TYPE, Board, World, wait_until, with_certificates
from warden_host import names
from warden_host.broker import connection
from warden_host.broker.backend import open_registry
from warden_host.cli import main
from warden_host.devices import certificates
from warden_host.devices.first_certificate import CertificateOrder
from warden_host.engine.request import Request
from warden_host.fleet import client_pki, pki
from warden_host.service.run import Service, serving
from warden_host.store.store import Store

# A device that is refused waits for minutes otherwise.
SOON = {"backoff_min_ms": 100, "backoff_max_ms": 1000}


class Served:
    """A fleet whose devices have certificates, served."""

    def __init__(self, world: World, service: Service) -> None:
        self.world, self.service, self.fleet = world, service, world.fleet

    def warden(self, *arguments: str) -> int:
        return main.run(["--fleet", str(self.fleet.root), *arguments])

    def board(self, device: str, kind: str = "ec", days: int = 365) -> Board:
        self.world.provision(
            device,
            commands=("set_relay",),
            certificate=CertificateOrder(kind, days),
            limits=SOON,
        )
        return Board(self.fleet.simulated(device))

    def works(self, device: str) -> bool:
        request = Request(device, "set_relay", {"on": 1}, app="authority", timeout_s=PATIENCE_S)
        answer = self.service.authority.command(request)
        return bool(answer["ok"])

    def states(self, device: str) -> list[tuple[str, bool]]:
        """(where the key was made, revoked) of each certificate."""
        with Store(self.fleet.database) as store:
            rows = store.certificates(device)
            return [(row.made_on, row.revoked is not None) for row in rows]


@pytest.fixture(scope="module")
def served(tmp_path_factory: Any, umqtt_path: Path) -> Iterator[Served]:
    world = with_certificates(
        World(tmp_path_factory.mktemp("certificates")),
        B1="certificate-and-password",
        O1="certificate-or-password",
    )
    with serving(world.fleet, world.news.add) as service:
        yield Served(world, service)


def lines(capsys: pytest.CaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_renewed_with_a_key_of_the_device(served: Served, capsys: pytest.CaptureFixture) -> None:
    with served.board("E1", days=20) as board:
        board.wait_line("log session-stands")
        # Its end is near: the device says so.
        board.wait_line("log own-certificate-expires in ")
        assert served.works("E1")
        served.world.fleet_event("incident", code="own-certificate-expires")
        assert served.warden("cert", "renew", "E1", "--json") == 0
        board.wait_line("log rotated certificate")
        assert lines(capsys)[-1] == {"ok": True, "device": "E1"}
        assert served.states("E1") == [("device", True), ("device", False)]
        assert served.works("E1")
        board.kill()
        # From its vault, by the new one alone; the key was never in the fleet's files.
        board.start()
        board.wait_line("log session-stands")
        assert served.works("E1")
        assert served.warden("cert", "list", "E1", "--json") == 0
        states = [(row["state"], row["key"]) for row in lines(capsys)]
        # The first key was made at provisioning, by the device too.
        assert states == [("revoked", "ec (device)"), ("valid", "ec (device)")]


def test_renewed_by_itself_before_its_end(served: Served) -> None:
    with served.board("A2", days=20) as board:
        board.wait_line("log session-stands")
        # As if it were of a longer life, so that 20 days are few.
        with Store(served.fleet.database) as store, store.transaction():
            store._do("UPDATE certificates SET issued = issued - 6400000 WHERE device = 'A2'")
        served.warden("provision", "A3", "--type", TYPE, "--sim")  # `warden serve` looks again
        board.wait_line("log rotated certificate")
        served.world.fleet_event("notice", text="the certificate of A2 was renewed, for 94 days")
        assert served.states("A2") == [("device", True), ("device", False)]
        assert served.works("A2")


def test_an_rsa_key(served: Served, capsys: pytest.CaptureFixture) -> None:
    with served.board("R1", "rsa") as board:
        board.wait_line("log session-stands")
        assert served.warden("cert", "renew", "R1", "--json") == 0
        board.wait_line("log rotated certificate")
        assert served.works("R1")
        assert served.states("R1") == [("host", True), ("host", False)]


def test_killed_while_the_new_one_is_tried(served: Served) -> None:
    with served.board("K1") as board:
        board.wait_line("log session-stands")
        served.world.fleet_event("session", device="K1")
        with Store(served.fleet.database) as store:
            ca = client_pki.load_issuer(served.fleet)
            issued = certificates.issue(ca, store.device("K1"), "ec")
            # Of no use: the broker refuses it, and the device is back with the old one.
            with store.transaction():
                store.add_certificate(issued.row)
                store.revoke_certificate(issued.row.serial, time.time())
                order = store.add_rotation("K1", {"certificate": issued.record()})
            certificates.update_crl(served.fleet, store, ca, served.service.broker.reload)
        served.service.authority.ask(lambda engine: engine.start_rotation("K1"))
        request = Request("K1", "rotate", order.body, app="authority", timeout_s=PATIENCE_S)
        assert served.service.authority.command(request)["ok"] is True
        board.wait_line("log own-certificate-refused")
        board.wait_line("log session-stands")
        board.kill()
        board.start()
        board.wait_line("log own-certificate-refused")
        board.wait_line("log session-stands")


def test_cut_off_at_once(served: Served, capsys: pytest.CaptureFixture) -> None:
    with served.board("C1") as board:
        board.wait_line("log session-stands")
        served.world.fleet_event("session", device="C1")
        assert served.warden("revoke", "C1", "--yes", "--json") == 0
        # The broker sends no last will: the command itself told the authority.
        served.world.fleet_event("left", device="C1", text="the broker dropped its connection")
        board.wait_line("log link-closed")
        board.wait_line("log own-certificate-refused")
        assert served.states("C1") == [("device", True)]
        # All-new secrets take it back.
        board.kill()
        again = ("provision", "C1", "--type", TYPE, "--sim", "--again", "--source", str(PROBE))
        assert served.warden(*again) == 0
        board.start()
        board.wait_line("log session-stands")


def test_its_certificate_alone(served: Served, capsys: pytest.CaptureFixture) -> None:
    with served.board("A1") as board:
        board.wait_line("log session-stands")
        served.world.fleet_event("session", device="A1")
        assert served.warden("cert", "revoke", "A1", "--yes", "--json") == 0
        assert lines(capsys)[-1] == {"ok": True, "device": "A1", "revoked": 1}
        served.world.fleet_event("left", device="A1", text="the broker dropped its connection")
        assert "A1" not in served.service.authority.ask(lambda engine: engine.online())
        board.wait_line("log link-closed")
        board.wait_line("log own-certificate-refused")
        assert served.warden("cert", "revoke", "A1", "--yes") == 1
        assert "no valid certificate" in capsys.readouterr().err


def test_no_password_opens_the_account(served: Served, capsys: pytest.CaptureFixture) -> None:
    with served.board("P1") as board:
        board.wait_line("log session-stands")
        assert served.warden("rotate", "P1", "--password") == 1
        assert "it logs in by its certificate" in capsys.readouterr().err


def test_a_certificate_and_a_password(served: Served, capsys: pytest.CaptureFixture) -> None:
    port = connection.load(served.fleet).both_port
    with served.board("B1") as board:
        board.wait_line(f"log link-up 127.0.0.1:{port}")
        board.wait_line("log session-stands")
        assert served.works("B1")
        # Each of them is replaced by itself.
        assert served.warden("rotate", "B1", "--password", "--json") == 0
        board.wait_line("log rotated password")
        assert served.warden("cert", "renew", "B1", "--json") == 0
        board.wait_line("log rotated certificate")
        assert served.works("B1")
        assert served.warden("devices", "--json") == 0
        shown = {one.get("device"): one for one in lines(capsys)}
        assert shown["B1"]["auth"] == "certificate-and-password"
        # And neither is enough alone: first the certificate goes, then the password.
        assert served.warden("cert", "revoke", "B1", "--yes", "--json") == 0
        board.wait_line("log link-closed")
        board.wait_line("log own-certificate-refused")
        board.kill()
        again = ("provision", "B1", "--type", TYPE, "--sim", "--again", "--source", str(PROBE))
        assert served.warden(*again) == 0
        board.start()
        board.wait_line("log session-stands")
        with open_registry(served.fleet) as accounts:
            accounts.set_password(names.device_client(TYPE, "B1"), "not the device's")
        board.wait_line("log mqtt-refused")


def test_a_certificate_or_a_password(served: Served, capsys: pytest.CaptureFixture) -> None:
    port = connection.load(served.fleet).certificate_port
    by_certificate = f"log link-up 127.0.0.1:{port}"
    by_password = f"log link-up 127.0.0.1:{served.world.port}"
    with served.board("O1") as board:
        board.wait_line(by_certificate)
        board.wait_line("log session-stands")
        assert served.works("O1")
        # A new password proves itself at its own listener, and a certificate at the other.
        assert served.warden("rotate", "O1", "--password", "--json") == 0
        board.wait_line(by_password)
        board.wait_line("log rotated password")
        assert served.warden("cert", "renew", "O1", "--json") == 0
        board.wait_line(by_certificate)
        board.wait_line("log rotated certificate")
        # Without the certificate the password is left, and a new certificate comes back.
        assert served.warden("cert", "revoke", "O1", "--yes", "--json") == 0
        board.wait_line("log own-certificate-refused")
        board.wait_line(by_password)
        board.wait_line("log session-stands")
        assert served.works("O1")
        assert served.warden("cert", "renew", "O1", "--json") == 0
        board.wait_line(by_certificate)
        board.wait_line("log rotated certificate")
        # Both end together.
        assert served.warden("revoke", "O1", "--yes", "--json") == 0
        board.wait_line("log own-certificate-refused")
        board.wait_line("log mqtt-refused")
        board.wait_line("log own-certificate-refused")


def test_a_new_server_key_on_a_living_fleet(served: Served, capsys: pytest.CaptureFixture) -> None:
    keys = served.fleet.keys
    with served.board("S1") as board:
        board.wait_line("log session-stands")
        backup = pki.load_pins(keys)[1]
        assert served.warden("cert", "renew-server", "--json") == 0
        assert lines(capsys)[-1]["served"] is True
        assert pki.load_pins(keys)[1] == backup
        assert served.warden("cert", "renew-server", "--new-key", "--json") == 0
        assert "S1" in lines(capsys)[-1]["without_backup_pin"]
        assert pki.load_pins(keys)[0] == backup
        assert served.works("S1")  # its connection stayed open
        # It does not pin the new backup key yet.
        assert served.warden("cert", "renew-server", "--new-key") == 1
        assert "not known to pin the backup key" in capsys.readouterr().err
        # It would refuse pins without the key of the connection that stayed open.
        assert served.warden("rotate", "S1", "--pins", "--json") == 0
        stages = [line.get("stage") for line in lines(capsys)]
        assert "reconnecting" in stages
        with Store(served.fleet.database) as store:
            assert set(store.pins("S1")) == set(pki.load_pins(keys))
        assert served.works("S1")


def test_the_revocation_list_is_kept(served: Served, capsys: pytest.CaptureFixture) -> None:
    assert served.warden("cert", "crl", "--json") == 0
    assert lines(capsys)[-1]["ends"] > time.time() + 29 * 86400
    # A list near its end is written anew by `warden serve`, here woken by a reload.
    ca = client_pki.load_issuer(served.fleet)
    old = client_pki.make_crl(ca, (), client_pki.CRL_RENEWED_BEFORE / 2)
    client_pki.write_crl(served.fleet, old, ca.certificate)
    assert served.service.authority.alive()
    main.run(["--fleet", str(served.fleet.root), "provision", "W1", "--type", "relay", "--sim"])
    path = served.fleet.broker / client_pki.CRL
    wait_until(lambda: path.read_bytes() != old, "new revocation list")
