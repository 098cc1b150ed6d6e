"""The table [connection] of warden.toml, and the broker's listeners that follow from it."""

import contextlib
import socket

import pytest
import tomli_w
from broker_kit import Client
from host_kit import new_fleet, refused
from port_kit import free_ports
from warden_host.broker import accounts, connection
from warden_host.broker.connection import Listener, Terms
from warden_host.broker.mosquitto import broker, registry
from warden_host.devices import log_in, setup
from warden_host.fleet import fleet
from warden_host.fleet.servers import Server
from warden_host.protocol import policy
from warden_host.store.store import App, Device, Store

BARE = {"tls": False, "messages_readable_on_the_network": True}


@pytest.fixture
def made(tmp_path):
    return new_fleet(tmp_path)


def write(made: fleet.Fleet, table: dict) -> fleet.Fleet:
    """Write [connection] into warden.toml; return the fleet as it is then."""
    document = made.document | {"connection": table}
    (made.root / fleet.CONFIG).write_text(tomli_w.dumps(document))
    return fleet.Fleet(made.root)


def test_without_the_table_a_password_over_tls(made):
    settings = connection.load(made)
    assert settings.terms("lock", "D1") == Terms("password", True)
    assert settings.listeners(()) == [Listener.TLS]
    assert connection.of_record(policy.record()) == Terms("password", True)


def test_a_device_s_own_terms_come_before_its_type_s(made):
    table = {"bare_port": 1884, "type": {"meter": {"tls": False}}, "device": {"M2": {"tls": True}}}
    settings = connection.load(write(made, BARE | {"tls": True} | table))
    assert not settings.terms("meter", "M1").tls
    assert settings.terms("meter", "M2").tls and settings.terms("lock", "D1").tls
    assert settings.listeners(()) == [Listener.TLS, Listener.BARE]
    assert settings.bare_port == 1884


def test_a_name_that_nothing_has_is_told(made):
    """It may come later; a misspelt one would leave its device to the fleet's terms."""
    own = {"auth": "certificate"}
    table = {"type": {"lokc": own, "relay": own}, "device": {"frnt-door": own, "D1": own}}
    made = write(made, table)
    with Store(made.database) as store:
        for name in ("D1", "front-door"):
            record = policy.record()
            store.add_device(Device(name, "lock", "UNIX", "sealed", record, pairs=()))
        setup.add_app(made, store, App("home", ("relay",), ("set_relay",)))
        assert log_in.unmatched_terms(made, store) == [
            "[connection.type.lokc] is about no type of this fleet: did you mean lock?",
            "[connection.device.frnt-door] is about no device of this fleet: did you mean "
            "front-door?",
        ]
    for name in ("no.name", "", "x" * 33):
        with refused("config-malformed"):
            connection.load(write(made, {"device": {name: own}}))


@pytest.mark.parametrize("kind", ["fleet", "type", "device"])
def test_tls_is_given_up_by_two_switches_only(made, kind):
    bare = {"tls": False} if kind == "fleet" else {kind: {"one": {"tls": False}}}
    for second in ({}, {connection.ACCEPTED: False}, {connection.ACCEPTED: "true"}):
        with refused("config-malformed"):
            connection.load(write(made, bare | second))
    connection.load(write(made, bare | {connection.ACCEPTED: True}))
    # The second one alone gives up nothing.
    settings = connection.load(write(made, {connection.ACCEPTED: True}))
    assert settings.listeners(()) == [Listener.TLS]


@pytest.mark.parametrize(
    "table",
    [
        {"auth": "none"},
        {"auth": []},
        {"auth": "certificate-and"},
        {"type": {"lock": {"auth": "certificate-xor-token"}}},
        {"auth": True},
        {"tls": 1},
        {"tls": "optional"},
        {"auht": "password"},
        {"type": {"lock": {"port": 1}}},
        {"type": {"lock": "password"}},
        {"device": []},
        {"bare_port": -1},
        {"renew_days": -1},
        {"renew_days": 10**6},
        {"renew_days": True},
        {"bare_port": True},
        BARE | {"auth": "token"},
        BARE | {"auth": "certificate"},
    ],
)
def test_what_the_table_does_not_say(made, table):
    with refused("config-malformed"):
        connection.load(write(made, table))


def test_a_port_that_another_listener_has(made):
    for port in (made.settings.broker.port, made.settings.broker.admin_port):
        with refused("config-malformed"):
            connection.load(write(made, BARE | {"bare_port": port}))


def test_the_listeners_of_each_way_to_log_in():
    of = {auth: Terms(auth).listeners for auth in policy.AUTH}
    assert of == {
        "password": (Listener.TLS,),
        "token": (Listener.TLS,),
        "certificate": (Listener.CERTIFICATE,),
        "certificate-and-password": (Listener.BOTH,),
        "certificate-and-token": (Listener.BOTH,),
        "certificate-or-password": (Listener.CERTIFICATE, Listener.TLS),
        "certificate-or-token": (Listener.CERTIFICATE, Listener.TLS),
    }
    assert Terms(tls=False).listeners == (Listener.BARE,)
    assert str(Terms(tls=False)) == "password, no TLS"


def test_a_listener_without_tls_is_there_for_a_device_that_needs_it(made):
    (port,) = free_ports(1)
    with registry.opened(made) as known:
        known.put(accounts.sealed_account("relay", "D1", "its own password"))
    write(made, {"bare_port": port, connection.ACCEPTED: True})
    with broker.Broker(fleet.Fleet(made.root)) as child:
        assert not listens(port)
        assert child.restart_warning() == ""
        record = policy.record(tls=False)
        with Store(made.database) as store:
            store.add_device(Device("D1", "relay", "UNIX", "sealed", record, pairs=()))
        assert "listener without TLS" in child.restart_warning()
    with broker.Broker(fleet.Fleet(made.root)) as child:
        assert child.restart_warning() == ""
        client = Client(made, "d:relay:D1", "d:relay:D1", "its own password", bare_port=port)
        try:
            assert client.answer == "Success"
            base = "iot-2/type/relay/id/D1"
            assert client.subscribe(f"{base}/cmd/#")
        finally:
            client.close()


def test_without_the_second_switch_no_device_gets_a_listener_without_tls(made):
    """Also one that was provisioned while both switches were there."""
    (port,) = free_ports(1)
    with Store(made.database) as store:
        record = policy.record(tls=False)
        store.add_device(Device("D1", "relay", "UNIX", "sealed", record, pairs=()))
    opened = write(made, {"bare_port": port})
    with refused("config-malformed"), broker.Broker(opened):
        pass
    assert not listens(port)
    with Store(made.database) as store, store.transaction():
        store.order_ending("D1", revoked=True, wipe=False, moment=1.0)
    with broker.Broker(opened):
        assert not listens(port)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def test_a_broker_without_a_listener_for_devices_without_tls(made):
    """They come by gateways: the broker opens nothing for them, and each names its own."""
    made = write(made, BARE | {"bare_port": 0})
    settings = connection.load(made)
    assert settings.asks_for_bare
    assert settings.listeners((Terms("password", False),)) == [Listener.TLS]
    terms = settings.terms("relay", "D1")
    for given in ((), (Server("gateway.example"),)):
        with refused("bad-argument"):
            log_in.brokers(made, terms, given)
    (server,) = log_in.brokers(made, terms, (Server("gateway.example", 1883),))
    assert (server.host, server.port) == ("gateway.example", 1883)
    with refused("config-malformed"):  # the second switch is asked for all the same
        connection.load(write(made, {"bare_port": 0, "tls": False}))
