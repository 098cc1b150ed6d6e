"""Client certificates at mosquitto itself: who is accepted, as whom, and what the list refuses."""

import contextlib
import socket
import ssl
import threading
import time
from datetime import timedelta

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives import serialization
from host_kit import new_fleet, refused
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_host.broker import certificate_check, connection
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import broker, registry
from warden_host.devices import certificates
from warden_host.fleet import client_pki, pki
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.store.certificates import Certificate
from warden_host.store.store import Device, Store

DAY = timedelta(days=1)
COMMANDS = "iot-2/type/relay/id/{}/cmd/#"


class Stage:
    """A broker that takes certificates, and devices D1 and D2."""

    def __init__(self, fleet, folder, running) -> None:
        self.fleet, self.folder, self.running = fleet, folder, running
        self.port = connection.load(fleet).certificate_port
        self.ca = client_pki.load_issuer(fleet)
        self.key = client_pki.new_key("ec")

    def issue(self, name: str, ca=None, life=DAY):
        return client_pki.issue(ca or self.ca, name, self.key.public_key(), life)

    def accepted(self, certificate, key=None) -> bool:
        return certificate_check.is_accepted(self.fleet, certificate, key or self.key)

    def context(self, certificate) -> ssl.SSLContext:
        pem = serialization.Encoding.PEM
        path = self.folder / "client.pem"
        path.write_bytes(certificate.public_bytes(pem) + self.ca.pem() + client_pki_pem(self.key))
        context = ssl.create_default_context(cafile=str(self.fleet.keys / "ca.crt"))
        context.load_cert_chain(path)
        return context

    @contextlib.contextmanager
    def client(self, certificate, client_id: str = "anything", user: str = ""):
        """A client that is logged in, and what it hears."""
        heard: list[str] = []
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id)
        if user:
            client.username_pw_set(user, "x")
        client.tls_set_context(self.context(certificate))
        client.on_connect = lambda _c, _d, _f, reason, _p: heard.append(str(reason))
        client.on_subscribe = lambda _c, _d, _m, reasons, _p: heard.append(
            "refused" if reasons[0].is_failure else "granted"
        )
        client.on_message = lambda _c, _d, message: heard.append(message.topic)
        client.on_disconnect = lambda *_: heard.append("gone")
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        client.heard = heard
        try:
            wait(lambda: heard, "answer to CONNECT")
            yield client
        finally:
            client.disconnect()
            client.loop_stop()


def client_pki_pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def wait(holds, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    fleet = new_fleet(folder)
    (port,) = free_ports(1)
    with (fleet.root / "warden.toml").open("a") as file:
        file.write(f'[connection]\nauth = "certificate"\ncertificate_port = {port}\n')
    fleet = Fleet(fleet.root)
    with refused("key-missing"):
        broker.Broker(fleet).start()
    client_pki.create(fleet)
    with registry.opened(fleet) as accounts:
        for name in ("D1", "D2"):
            accounts.put(device_account("relay", name, device_password()))
    with broker.Broker(fleet) as running:
        yield Stage(fleet, folder, running)


def test_only_certificates_of_the_fleet(stage):
    assert stage.accepted(stage.issue("d:relay:D1"))
    rsa = client_pki.new_key("rsa")
    assert stage.accepted(client_pki.issue(stage.ca, "d:relay:D1", rsa.public_key(), DAY), rsa)
    # Another CA's; one that expired; the server's own, though its CA is this fleet's.
    assert not stage.accepted(stage.issue("d:relay:D1", pki.new_ca("Warden device CA")))
    assert not stage.accepted(stage.issue("d:relay:D1", life=timedelta(hours=-1)))
    assert not stage.accepted(
        pki.load_certificate(stage.fleet.keys / "server.crt"),
        pki.load_key(stage.fleet.keys / "server.key"),
    )


@pytest.mark.parametrize("who", ["nobody", "a stranger", "a silent one"])
def test_a_check_that_no_broker_of_the_fleet_answers(tmp_path, monkeypatch, who):
    """It says nothing of the certificate then."""
    made, port = new_fleet(tmp_path), free_ports(1)[0]
    with (made.root / "warden.toml").open("a") as file:
        file.write(f'[connection]\nauth = "certificate"\ncertificate_port = {port}\n')
    made = Fleet(made.root)
    client_pki.create(made)
    key = client_pki.new_key("ec")
    one = client_pki.issue(client_pki.load_issuer(made), "d:relay:D1", key.public_key(), DAY)
    with contextlib.ExitStack() as stack:
        if who != "nobody":
            listener = stack.enter_context(socket.create_server(("127.0.0.1", port)))
        if who == "a silent one":
            monkeypatch.setattr(certificate_check, "_CONNECT_S", 0.1)
        if who == "a stranger":
            leaf = pki.new_ca().issue(("127.0.0.1", "localhost"))
            (tmp_path / "crt").write_bytes(leaf.certificate_pem() + leaf.key_pem())
            other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            other.load_cert_chain(tmp_path / "crt")
            wrapped = stack.enter_context(other.wrap_socket(listener, server_side=True))
            threading.Thread(target=shake_hands, args=(wrapped,), daemon=True).start()
        with refused("unreachable"):
            certificate_check.is_accepted(made, one, key)


def shake_hands(listener: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        listener.accept()


def test_no_certificate_no_connection(stage):
    context = ssl.create_default_context(cafile=str(stage.fleet.keys / "ca.crt"))
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="d:relay:D1")
    client.tls_set_context(context)
    told = []
    client.on_connect = lambda *_: told.append("logged in")
    with contextlib.suppress(OSError):
        client.connect("127.0.0.1", stage.port)
        for _ in range(5):
            client.loop(0.1)
    assert told == []


def test_the_name_is_the_identity(stage):
    # Neither the client ID nor the user name of CONNECT counts.
    with stage.client(stage.issue("d:relay:D1"), "d:relay:D2", "d:relay:D2") as client:
        client.subscribe(COMMANDS.format("D1"))
        client.subscribe(COMMANDS.format("D2"))
        wait(lambda: len(client.heard) == 3, "answers")
        assert client.heard == ["Success", "granted", "refused"]
        # Another client under its ID is another certificate of the same name, which replaces it.
        with stage.client(stage.issue("d:relay:D2"), "d:relay:D1") as other:
            other.subscribe(COMMANDS.format("D2"))
            wait(lambda: len(other.heard) == 2, "answer")
            assert other.heard == ["Success", "granted"]
            assert client.heard[3:] == []


def test_names_without_an_account_have_no_rights(stage):
    for name in ("d:relay:", "d:relay:D9", "a:authority2", "warden-probe"):
        with stage.client(stage.issue(name)) as client:
            client.subscribe(COMMANDS.format("D1"))
            client.subscribe("#")
            wait(lambda: len(client.heard) == 3, "answers")
            assert client.heard == ["Success", "refused", "refused"], name


def test_the_list_cuts_off(stage):
    fleet, one = stage.fleet, stage.issue("d:relay:D2")
    serial = f"{one.serial_number:x}"
    row = Certificate(
        serial, "D2", "relay", "d:relay:D2", "ec", "host", 1.0, time.time() + 99, b""
    )
    assert stage.accepted(one)
    with Store(fleet.database) as store:
        with store.transaction():
            store.add_certificate(row)
        assert not certificates.crl_is_due(fleet, store)
        with store.transaction():
            assert store.revoke_certificates("D2", time.time()) == 1
        assert certificates.crl_is_due(fleet, store)
        certificates.update_crl(fleet, store, stage.ca, stage.running.reload)
        assert not certificates.crl_is_due(fleet, store)
    assert not stage.accepted(one)
    assert stage.accepted(stage.issue("d:relay:D2"))


def test_a_list_that_the_broker_did_not_read_is_noticed(stage, monkeypatch):
    monkeypatch.setattr(certificate_check, "_APPLIED_S", 0.3)
    with Store(stage.fleet.database) as store:
        with refused("crl-damaged"):
            certificates.update_crl(stage.fleet, store, stage.ca, lambda: None)
        # An expired list refuses everybody.
        ended = client_pki.make_crl(stage.ca, (), timedelta(seconds=-1))
        client_pki.write_crl(stage.fleet, ended, stage.ca.certificate)
        assert certificates.crl_is_due(stage.fleet, store)
        stage.running.reload()
        wait(lambda: not stage.accepted(stage.issue("d:relay:D1")), "refusal")
        monkeypatch.setattr(certificate_check, "_APPLIED_S", PATIENCE_S)
        certificates.update_crl(stage.fleet, store, stage.ca, stage.running.reload)
    assert stage.accepted(stage.issue("d:relay:D1"))


def test_no_damaged_list_is_written(stage):
    other = pki.new_ca("Warden device CA", crl_sign=True)
    before = (stage.fleet.broker / client_pki.CRL).read_bytes()
    for bad in (b"", before[:-40], client_pki.make_crl(other, ())):
        with refused("crl-damaged"):
            client_pki.write_crl(stage.fleet, bad, stage.ca.certificate)
    assert (stage.fleet.broker / client_pki.CRL).read_bytes() == before


def test_what_no_certificate_takes(stage):
    device = Device("x" * 32, "y" * 32, "UNIX", "sealed", policy.record())
    with refused("bad-argument"):
        certificates.issue(stage.ca, device, "ec")
    device = Device("D1", "relay", "UNIX", "sealed", policy.record())
    for days in (0, 3651):
        with refused("bad-argument"):
            certificates.issue(stage.ca, device, "ec", days)
    for point in (b"", bytes(64), b"\xff" * 64, bytes(65)):
        with refused("bad-body"):
            certificates.issue(stage.ca, device, "ec", point=point)
