"""A certificate and a password together, and one in the other's place, at mosquitto itself."""

import socket
import ssl
import time
from datetime import timedelta

import pytest
from broker_kit import Client
from cryptography.hazmat.primitives import serialization
from host_kit import new_fleet
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_host import names
from warden_host.broker import certificate_check, connection
from warden_host.broker.accounts import certified_account, device_account
from warden_host.broker.connection import Listener
from warden_host.broker.mosquitto import broker, registry
from warden_host.devices import certificates
from warden_host.fleet import client_pki
from warden_host.fleet.fleet import Fleet
from warden_host.store.certificates import Certificate
from warden_host.store.store import Store

DAY = timedelta(days=1)
REFUSED = "Not authorized"
PASSWORDS = {"B1": "both one's", "B2": "both two's", "O1": "either's"}
NAME = names.certified_name("relay", "B1")
COMMANDS = "iot-2/type/relay/id/{}/cmd/#"


class Stage:
    """A broker with all listeners: B1 and B2 need both, O1 has a choice."""

    def __init__(self, fleet: Fleet, folder, running) -> None:
        self.fleet, self.folder, self.running = fleet, folder, running
        self.settings = connection.load(fleet)
        self.ca, self.key = client_pki.load_issuer(fleet), client_pki.new_key("ec")
        self.clients: list[Client] = []

    def certificate(self, name: str):
        return client_pki.issue(self.ca, name, self.key.public_key(), DAY)

    def join(self, listener: Listener, client_id: str, device: str, password: str, name: str = ""):
        """A client at a listener, with a certificate of that name where there is one."""
        context = ssl.create_default_context(cafile=str(self.fleet.keys / "ca.crt"))
        if name:
            pem = serialization.Encoding.PEM
            path = self.folder / "client.pem"
            secret = self.key.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            path.write_bytes(self.certificate(name).public_bytes(pem) + self.ca.pem() + secret)
            context.load_cert_chain(path)
        port = self.settings.port(listener, self.fleet.settings.broker.port)
        user = names.device_client("relay", device)
        client = Client(self.fleet, client_id, user, password, port=port, context=context)
        self.clients.append(client)
        return client


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    fleet = new_fleet(folder)
    ports = free_ports(3)
    with (fleet.root / "warden.toml").open("a") as file:
        file.write(
            '[connection]\nauth = "certificate-and-password"\n'
            f"certificate_port = {ports[0]}\nboth_port = {ports[1]}\nbare_port = {ports[2]}\n"
            "messages_readable_on_the_network = true\n"
            '[connection.device.O1]\nauth = "certificate-or-password"\n'
            '[connection.device.N1]\nauth = "password"\ntls = false\n'
        )
    fleet = Fleet(fleet.root)
    client_pki.create(fleet)
    with registry.opened(fleet) as accounts:
        accounts.put(certified_account("relay", "B1", PASSWORDS["B1"]))
        accounts.put(device_account("relay", "O1", PASSWORDS["O1"]))
    with broker.Broker(fleet) as running:
        with registry.opened(fleet) as accounts:  # the other way: over $CONTROL
            accounts.put(certified_account("relay", "B2", PASSWORDS["B2"]))
        made = Stage(fleet, folder, running)
        yield made
        for client in made.clients:
            client.close()


@pytest.mark.parametrize("device", ["B1", "B2"])
def test_both_are_needed(stage, device):
    name, secret = names.certified_client("relay", device), PASSWORDS[device]
    own = names.certified_name("relay", device)
    client = stage.join(Listener.BOTH, name, device, secret, own)
    assert client.answer == "Success"
    assert client.subscribe(COMMANDS.format(device))
    # A certificate with another password, with another client ID.
    assert stage.join(Listener.BOTH, name, device, secret + "x", own).answer == REFUSED
    other = names.device_client("relay", device)
    assert stage.join(Listener.BOTH, other, device, secret, own).answer == REFUSED


def test_the_password_alone_opens_no_listener(stage):
    name = names.certified_client("relay", "B1")
    # Without a certificate there is no connection to log in on.
    context = ssl.create_default_context(cafile=str(stage.fleet.keys / "ca.crt"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    address = ("127.0.0.1", stage.settings.both_port)
    with socket.create_connection(address, PATIENCE_S) as raw, pytest.raises(OSError):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
    for listener in (Listener.TLS, Listener.BARE):
        for client_id in (name, names.device_client("relay", "B1")):
            port = stage.settings.port(listener, stage.fleet.settings.broker.port)
            user = names.device_client("relay", "B1")
            bare = listener is Listener.BARE
            client = Client(
                stage.fleet, client_id, user, PASSWORDS["B1"], bare_port=port if bare else 0
            )
            assert client.answer == REFUSED, (listener, client_id)


def test_nor_does_it_open_the_administrator_s_listener(stage):
    name = names.certified_client("relay", "B1")
    user = names.device_client("relay", "B1")
    port = stage.fleet.settings.broker.admin_port
    assert Client(stage.fleet, name, user, PASSWORDS["B1"], port=port).answer == REFUSED


def test_the_certificate_alone_opens_nothing(stage):
    name = names.certified_client("relay", "B1")
    client = stage.join(Listener.CERTIFICATE, name, "B1", PASSWORDS["B1"], NAME)
    for pattern in (COMMANDS.format("B1"), "#"):
        assert not client.subscribe(pattern)


def test_nor_does_it_take_the_device_s_place(stage):
    """mosquitto ends an older connection of the same client ID without asking for rights."""
    client_id = names.certified_client("relay", "B1")
    client = stage.join(Listener.BOTH, client_id, "B1", PASSWORDS["B1"], NAME)
    assert client.answer == "Success"
    assert stage.join(Listener.CERTIFICATE, client_id, "B1", "", NAME).answer == "Success"
    assert client.subscribe(COMMANDS.format("B1"))


def test_the_list_holds_at_both_listeners(stage):
    bad = stage.certificate(NAME)
    assert certificate_check.is_accepted(stage.fleet, bad, stage.key, Listener.BOTH)
    serial, end = f"{bad.serial_number:x}", time.time() + 99
    row = Certificate(serial, "B1", "relay", NAME, "ec", "host", 1.0, end, b"")
    with Store(stage.fleet.database) as store:
        with store.transaction():
            store.add_certificate(row)
            store.revoke_certificates("B1", time.time())
        certificates.update_crl(stage.fleet, store, stage.ca, stage.running.reload)
    for listener in (Listener.BOTH, Listener.CERTIFICATE):
        assert not certificate_check.is_accepted(stage.fleet, bad, stage.key, listener)


def test_each_alone_where_there_is_a_choice(stage):
    name = names.device_client("relay", "O1")
    by_certificate = stage.join(Listener.CERTIFICATE, name, "O1", "", name)
    assert by_certificate.subscribe(COMMANDS.format("O1"))
    by_password = stage.join(Listener.TLS, name, "O1", PASSWORDS["O1"])
    assert by_password.answer == "Success" and by_password.subscribe(COMMANDS.format("O1"))
    assert stage.join(Listener.TLS, name, "O1", "").answer == REFUSED


def test_what_mosquitto_does_not_compare(stage):
    """Another device's certificate passes beside the own password (docs/certificates.md)."""
    name = names.certified_client("relay", "B1")
    another = names.certified_name("relay", "B2")
    other = stage.join(Listener.BOTH, name, "B1", PASSWORDS["B1"], another)
    assert other.answer == "Success"
