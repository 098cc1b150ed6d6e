"""The broker's roles, asked of mosquitto itself: what no role names is refused."""

import contextlib
import json
import os
import signal
import socket
import ssl
import time
from types import SimpleNamespace

import paho.mqtt.client as mqtt
import pytest
from broker_kit import Client
from host_kit import new_fleet, refused
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_client import secretfile
from warden_host import names
from warden_host.broker.accounts import (
    app_account,
    device_account,
    device_password,
    machine_password,
    wipe_only_account,
)
from warden_host.broker.mosquitto import broker, config, dynsec, registry
from warden_host.broker.mosquitto import log as brokerlog
from warden_host.devices import setup
from warden_host.fleet import fleet
from warden_host.protocol import policy
from warden_host.store import store
from warden_host.store.store import App

PASSWORDS = {name: device_password() for name in ("D1", "D2")}
QUIET_S = 0.5  # what is denied leaves no trace: so long nothing may come


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = new_fleet(tmp_path_factory.mktemp("broker"))
    with store.Store(made.database) as known:
        setup.add_app(made, known, App("lights", ("relay",), ("set_relay",)))
        setup.add_app(made, known, App("doors", ("door",), ("open",)))
    with registry.opened(made) as accounts:
        accounts.put(device_account("relay", "D1", PASSWORDS["D1"]))
    with broker.Broker(made):
        with registry.opened(made) as accounts:  # the other way: over $CONTROL
            accounts.put(device_account("relay", "D2", PASSWORDS["D2"]))
        yield made


@pytest.fixture
def join(running):
    clients = []

    def connect(client_id: str, user: str | None = None, password: str | None = None) -> Client:
        user = user or client_id
        if password is None:
            known = user.startswith("a:")
            password = (
                running.app_password(user[2:]).decode() if known else PASSWORDS[user.split(":")[2]]
            )
        clients.append(Client(running, client_id, user, password))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def evt(device: str, verb: str = "x", type_: str = "relay") -> str:
    return f"iot-2/type/{type_}/id/{device}/evt/{verb}/fmt/json"


def cmd(device: str, verb: str = "x", type_: str = "relay") -> str:
    return f"iot-2/type/{type_}/id/{device}/cmd/{verb}/fmt/json"


def test_accounts_log_in_by_their_own_password_only(join):
    for client_id in ("d:relay:D1", "d:relay:D2", "a:lights", "a:authority"):
        assert join(client_id).answer == "Success"
    assert join("d:relay:D1", password=PASSWORDS["D2"]).answer == "Not authorized"
    assert join("d:relay:D1", password=PASSWORDS["D1"] + "a").answer == "Not authorized"
    assert join("d:relay:D1", password="").answer == "Not authorized"
    assert join("d:relay:D9", "d:relay:D9", "x").answer == "Not authorized"


def test_a_stranger_under_anothers_id_does_not_kick_him(join):
    """The user name takes the place of the client ID, whatever CONNECT says."""
    device = join("d:relay:D1")
    assert device.subscribe("iot-2/type/relay/id/D1/cmd/#")
    for client_id, user in (("d:relay:D1", "d:relay:D2"), ("d:relay:D1", "a:lights")):
        other = join(client_id, user)
        assert other.answer == "Success"
        assert not other.subscribe("iot-2/type/relay/id/D1/cmd/#")
    join("a:lights").publish(cmd("D1"))
    assert device.until(lambda: device.heard)


def test_a_device_receives_its_own_commands_only(join):
    device = join("d:relay:D1")
    assert device.subscribe("iot-2/type/relay/id/D1/cmd/#")
    for pattern in (
        "iot-2/type/relay/id/D2/cmd/#",
        "iot-2/type/relay/id/+/cmd/#",
        "iot-2/type/relay/id/D1/evt/#",
        "iot-2/type/relay/id/D1/#",
        "iot-2/#",
        "#",
        "$SYS/#",
        "$CONTROL/#",
    ):
        assert not device.subscribe(pattern), pattern


def test_a_device_speaks_under_its_own_name_only(join):
    app, device = join("a:lights"), join("d:relay:D1")
    assert app.subscribe("iot-2/type/relay/id/+/evt/#")
    other = join("d:relay:D2")
    assert other.subscribe("iot-2/type/relay/id/D2/cmd/#")
    assert device.subscribe("iot-2/type/relay/id/D1/cmd/#")
    for topic in (evt("D2"), cmd("D2"), cmd("D1"), evt("D1", type_="door"), "elsewhere"):
        device.publish(topic)
    device.publish(evt("D1"))
    assert app.until(lambda: app.heard)
    app.until(lambda: len(app.heard) > 1, QUIET_S)
    assert [topic for topic, _ in app.heard] == [evt("D1")]
    other.until(lambda: other.heard, QUIET_S)
    device.until(lambda: device.heard, QUIET_S)
    assert (other.heard, device.heard) == ([], [])  # and it can't command itself


def test_an_application_reaches_its_own_types_only(join):
    lights, doors, device = join("a:lights"), join("a:doors"), join("d:relay:D1")
    assert doors.subscribe("iot-2/type/door/id/+/evt/#")
    for pattern in (
        "iot-2/type/relay/id/+/evt/#",
        "iot-2/type/+/id/+/evt/#",
        "iot-2/type/door/id/+/cmd/#",
        "#",
    ):
        assert not doors.subscribe(pattern), pattern
    assert device.subscribe("iot-2/type/relay/id/D1/cmd/#")
    doors.publish(cmd("D1", "doors"))
    doors.publish(evt("D1"))
    lights.publish(cmd("D1", "lights"))
    assert device.until(lambda: device.heard)
    device.until(lambda: len(device.heard) > 1, QUIET_S)
    assert [topic for topic, _ in device.heard] == [cmd("D1", "lights")]


def test_the_authority_receives_every_type_and_no_commands(join):
    authority = join("a:authority")
    assert authority.subscribe("iot-2/type/+/id/+/evt/#")
    assert not authority.subscribe("iot-2/type/+/id/+/cmd/#")
    join("d:relay:D2").publish(evt("D2"))
    assert authority.until(lambda: authority.heard)


def test_administration_is_the_administrators_alone(running, join):
    order = {"command": "createClient", "username": "evil", "clientid": "evil", "password": "evil"}
    for client_id in ("d:relay:D1", "a:lights", "a:authority"):
        client = join(client_id)
        assert not client.subscribe("$CONTROL/dynamic-security/v1/response")
        client.publish(
            "$CONTROL/dynamic-security/v1", data=json.dumps({"commands": [order]}).encode()
        )
    assert join("evil", password="evil").answer == "Not authorized"
    password = secretfile.read(running.keys / registry.ADMIN_PASSWORD).decode()
    admin = join(names.ADMIN, names.ADMIN, password)
    assert not admin.subscribe("iot-2/#")
    device = join("d:relay:D1")
    assert device.subscribe("iot-2/type/relay/id/D1/cmd/#")
    admin.publish(cmd("D1"))
    assert not device.until(lambda: device.heard, QUIET_S)


def test_nothing_is_retained(join):
    client = join("d:relay:D1")
    client.publish(evt("D1", "kept"), retain=True)
    app = join("a:lights")
    assert app.subscribe("iot-2/type/relay/id/+/evt/#")
    assert not app.until(lambda: app.heard, QUIET_S)


def test_a_removed_device_is_cut_off_at_once(running, join):
    with registry.opened(running) as accounts:
        accounts.put(device_account("relay", "D3", PASSWORDS["D1"]))
    device = join("d:relay:D3", password=PASSWORDS["D1"])
    gone: list[object] = []
    device.client.on_disconnect = lambda *_: gone.append(1)
    with registry.opened(running) as accounts:
        accounts.remove("d:relay:D3", "device:relay:D3")
        accounts.remove("d:relay:D3", "device:relay:D3")  # twice is no error
    assert device.until(lambda: gone)
    assert join("d:relay:D3", password=PASSWORDS["D1"]).answer == "Not authorized"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(running, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(running.keys / "ca.crt")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    address = ("127.0.0.1", running.settings.broker.port)
    with (
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
        socket.create_connection(address) as raw,
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_the_brokers_files_hold_no_secret(running):
    texts = [path.read_bytes() for path in running.broker.iterdir()]
    assert any(b"d:relay:D1" in text for text in texts)
    secrets = [*(each.encode() for each in PASSWORDS.values())]
    secrets += [secretfile.read(path) for path in running.keys.glob("*.password")]
    assert len(secrets) > len(PASSWORDS)
    for secret in secrets:
        assert not any(secret in text for text in texts)


def test_a_second_broker_is_refused_and_the_file_left_alone(running):
    with refused("broker-running"):
        broker.Broker(running).start()


def test_an_administrator_with_a_wrong_password(running, monkeypatch):
    closed, close = [], registry._Running.close
    monkeypatch.setattr(registry._Running, "close", lambda self: closed.append(close(self)))
    path = running.keys / registry.ADMIN_PASSWORD
    right = secretfile.read(path)
    secretfile.write(path, b"wrong")
    try:
        with refused("broker-refused"), registry.opened(running):
            pass
    finally:
        secretfile.write(path, right)
    assert closed


def test_an_order_that_the_plugin_refuses(running):
    with registry.opened(running) as accounts:
        for answer in (b"", b"[]", b'{"responses": [7]}', b'{"responses": 7}'):  # to nothing
            accounts._on_message(None, None, SimpleNamespace(payload=answer))
        with refused("broker-refused") as said:
            accounts.set_password("d:relay:D9", "a secret")
    assert "secret" not in str(said)


def test_a_device_that_a_change_drops_is_reported(running, monkeypatch):
    reports: list[dict] = []
    monkeypatch.setattr(
        registry.control_client, "call", lambda _, request, __: reports.append(request)
    )
    with registry.opened(running) as accounts:
        accounts.set_password("a:lights", running.app_password("lights").decode())
        accounts.set_password("d:relay:D2", PASSWORDS["D2"])
        accounts.disable("d:relay:D2")
        accounts.put(device_account("relay", "D2", PASSWORDS["D2"]))
    assert reports == [{"op": "dropped", "client": "d:relay:D2"}] * 3


# Starting and stopping


def test_a_port_that_is_taken(tmp_path):
    made = new_fleet(tmp_path)
    for port in (made.settings.broker.port, made.settings.broker.admin_port):
        with socket.create_server(("127.0.0.1", port)), refused("broker-port"):
            broker.Broker(made).start()


def test_without_mosquitto(tmp_path, monkeypatch):
    made = new_fleet(tmp_path)
    monkeypatch.setattr(broker.shutil, "which", lambda *_, **__: None)
    with refused("broker-missing"):
        broker.Broker(made).start()


def test_a_plugin_that_is_not_there(tmp_path, monkeypatch):
    made = new_fleet(tmp_path)
    monkeypatch.setenv("WARDEN_DYNSEC", str(tmp_path / "none.so"))
    with refused("broker-failed"):
        broker.Broker(made).start()


def test_no_plugin_on_this_machine(tmp_path, monkeypatch):
    made = new_fleet(tmp_path)
    monkeypatch.delenv("WARDEN_DYNSEC", raising=False)
    monkeypatch.setattr(broker, "_PLUGIN", "none.so")
    with refused("broker-missing"):
        broker.Broker(made).start()


def test_a_broker_that_does_not_listen_is_ended(tmp_path, monkeypatch):
    made, program = new_fleet(tmp_path), tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(broker, "find_binary", lambda: str(program))
    monkeypatch.setattr(broker, "version", lambda _: (2, 1))
    monkeypatch.setattr(broker, "_START_S", 0.5)
    child = broker.Broker(made)
    with refused("broker-failed") as said:
        child.start()
    assert "does not listen" in str(said)
    assert not broker.is_running(made)  # the child would hold the lock


def test_a_server_key_that_others_can_read(tmp_path):
    made = new_fleet(tmp_path)
    (made.keys / "server.key").chmod(0o644)
    with refused("key-permissions"):
        broker.Broker(made).start()


def test_it_is_stopped_by_its_pid_and_can_start_again(tmp_path):
    made = new_fleet(tmp_path)
    for _ in range(2):
        with broker.Broker(made) as child:
            pid = child.pid
            os.kill(pid, 0)
            assert child.alive()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_broker_that_outlived_its_master_keeps_the_lock(tmp_path):
    made = new_fleet(tmp_path)
    with broker.Broker(made) as child:
        child._lock.file.close()  # what the kernel does for a `warden serve` that was killed
        with refused("broker-running"):
            broker.Broker(made).start()
        with registry.opened(made) as accounts:  # the file is not touched behind its back
            accounts.remove("d:relay:D9", "device:relay:D9")
    with broker.Broker(made):
        pass


def test_a_broker_that_died_is_noticed(tmp_path):
    made = new_fleet(tmp_path)
    with broker.Broker(made) as child:
        os.kill(child.pid, signal.SIGKILL)
        end = time.monotonic() + PATIENCE_S
        while child.alive() and time.monotonic() < end:
            time.sleep(0.05)
        assert not child.alive()
        with refused("broker-failed"):
            child.reload()


# The log


def test_a_log_without_a_child_is_closed(tmp_path):
    """The broker's program could not be started."""
    log = brokerlog.BrokerLog(tmp_path / "log", 100)
    writer = os.dup(log.writer)
    log.close()
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)
    with pytest.raises(ValueError, match="closed file"):
        log._log.write(b"x")


def test_strangers_grow_no_file_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(broker, "MAX_LOG", 20_000)
    made = new_fleet(tmp_path)
    with broker.Broker(made):
        before = {path.name: path.stat().st_size for path in made.broker.iterdir()}
        for _ in range(600):
            socket.create_connection(("127.0.0.1", made.settings.broker.port)).close()
    after = {path.name: path.stat().st_size for path in made.broker.iterdir()}
    logs = {broker.LOG, broker.LOG + ".1"}
    assert (
        after.keys() == before.keys() | logs
    )  # it was rotated, so this many would have filled it
    assert all(0 < after[name] <= 20_000 for name in logs)
    assert {name: after[name] for name in before if name not in logs} == {
        name: before[name] for name in before if name not in logs
    }


def test_the_log_keeps_its_latest_lines(tmp_path):
    log = brokerlog.BoundedLog(tmp_path / "log", 100)
    for number in range(50):
        log.write(b"line %03d\n" % number)
    log.write(b"x" * 1000)  # more than a file holds
    log.close()
    assert (tmp_path / "log").read_bytes() == b"x" * 100
    assert (tmp_path / "log.1").read_bytes().endswith(b"line 048\nline 049\n")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_is_read_on(tmp_path, monkeypatch):
    """A full disk, or a reader that hangs: mosquitto goes on, and so does the log afterwards."""
    monkeypatch.setattr(brokerlog, "_CHUNK", 4096)
    log = brokerlog.BrokerLog(tmp_path / "log", 100)
    writer = os.dup(log.writer)
    failing = iter([OSError(28, "No space left on device")])
    real = log._log.write

    def write(data: bytes) -> None:
        for error in failing:
            raise error
        real(data)

    log._log.write = write
    with contextlib.suppress(BlockingIOError):  # it never blocks the one who writes
        while True:
            os.write(writer, b"y" * 4096)
    os.close(writer)
    log.started()
    log.close()
    assert (tmp_path / "log").read_bytes() == b"y" * 100


def test_a_rotation_that_failed_half_way_is_made_up_for(tmp_path):
    log = brokerlog.BoundedLog(tmp_path / "log", 10)
    log.write(b"123456789\n")
    (tmp_path / "log").unlink()
    log.write(b"abcdefghi\n")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"abcdefghi\n"


# Where it listens


@pytest.fixture
def localhost(monkeypatch):
    """Lets the test say what localhost stands for."""
    real, found = socket.getaddrinfo, []

    def getaddrinfo(host, port, *rest, **options):
        if str(host).lower() != "localhost":
            return real(host, port, *rest, **options)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


@pytest.mark.parametrize(
    ("host", "listen", "means", "wanted"),
    [
        ("localhost", "127.0.0.1", ["127.0.0.1"], ["127.0.0.1"]),
        ("localhost", "127.0.0.1", ["::1", "127.0.0.1"], ["127.0.0.1", "::1"]),
        ("LOCALHOST", "127.0.0.1", [], ["127.0.0.1"]),
        ("localhost", "::1", ["::1", "127.0.0.1"], ["::1", "127.0.0.1"]),
        ("localhost", "0.0.0.0", ["::1", "127.0.0.1"], ["0.0.0.0"]),
        ("127.0.0.1", "127.0.0.1", ["::1", "127.0.0.1"], ["127.0.0.1"]),
    ],
)
def test_where_it_listens(localhost, monkeypatch, host, listen, means, wanted):
    localhost += means
    settings = fleet.BrokerSettings(host=host, listen=listen)
    monkeypatch.setattr(config, "_is_ours", lambda _: True)
    assert config.listening(settings) == wanted
    monkeypatch.setattr(config, "_is_ours", lambda _: False)  # IPv6 is switched off
    assert config.listening(settings) == [listen]


def test_which_addresses_are_this_machines():
    assert config._is_ours("127.0.0.1")
    assert not config._is_ours("192.0.2.1")  # RFC 5737


def test_localhost_is_served_on_both_its_addresses(tmp_path, localhost):
    if not config._is_ours("::1"):
        pytest.skip("this machine has no IPv6")
    localhost += ["::1", "127.0.0.1"]
    port, admin = free_ports(2)
    settings = fleet.BrokerSettings(
        host="localhost", port=port, device_port=port, admin_port=admin
    )
    made = setup.new_fleet(tmp_path / "fleet", fleet.Settings(settings, ("set_relay",)))
    context = ssl.create_default_context(cafile=str(made.keys / "ca.crt"))
    with broker.Broker(made):
        for address in ("::1", "127.0.0.1"):
            with socket.create_connection((address, port), PATIENCE_S) as raw:
                context.wrap_socket(raw, server_hostname="localhost").close()
    with socket.create_server(("::1", port), family=socket.AF_INET6), refused("broker-port"):
        broker.Broker(made).start()


# The largest packet


def packet(topic: str, size: int, alias: bool = False) -> bytes:
    """A PUBLISH of QoS 0 that has so many bytes. alias: by MQTT 5, under a name for the topic."""
    name = topic.encode()
    head = len(name).to_bytes(2, "big") + name + (b"\x03\x23\x00\x01" if alias else b"")
    left = size - 3  # the length takes two bytes here
    assert 128 <= left < 16384
    return bytes([0x30, left & 0x7F | 0x80, left >> 7]) + head + bytes(left - len(head))


@pytest.fixture
def two_sizes(tmp_path):
    """A fleet with a device of the default policy and one of another."""

    def make(most: int) -> fleet.Fleet:
        made = new_fleet(tmp_path)
        with store.Store(made.database) as known:
            for name, size in (("D1", 2048), ("D2", most)):
                record = policy.record(max_message=size)
                known.add_device(store.Device(name, "relay", "UNIX", "sealed", record))
            setup.add_app(made, known, App("lights", ("relay",), ("set_relay",)))
        return made

    return make


@pytest.mark.parametrize(("most", "limit"), [(512, 2048), (2048, 2048), (3000, 3000)])
def test_no_packet_above_what_devices_take(two_sizes, most, limit):
    made = two_sizes(most)
    with registry.opened(made) as accounts:
        accounts.put(device_account("relay", "D1", PASSWORDS["D1"]))
    with broker.Broker(made):
        device = Client(made, "d:relay:D1", "d:relay:D1", PASSWORDS["D1"])
        assert device.subscribe("iot-2/type/relay/id/D1/cmd/#")
        for size in (limit, limit + 1):
            app = Client(made, "a:lights", "a:lights", made.app_password("lights").decode())
            gone: list[object] = []
            app.client.on_disconnect = lambda *_, gone=gone: gone.append(1)
            app.client.socket().sendall(packet(cmd("D1"), size))
            app.publish(cmd("D1"), data=b"after it")
            if size > limit:
                assert app.until(lambda gone=gone: gone)  # the sender pays for it
            app.close()
        assert device.until(lambda: len(device.heard) >= 2)
        device.until(lambda: len(device.heard) > 2, QUIET_S)
    assert [len(data) for _, data in device.heard] == [
        limit - 5 - len(cmd("D1")),
        len(b"after it"),
    ]


def test_no_packet_is_longer_where_it_is_delivered(running):
    """MQTT 5's topic alias would send a packet without its topic, and devices get one with it."""
    heard = []
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id="a:lights", protocol=mqtt.MQTTv5
    )
    client.username_pw_set("a:lights", running.app_password("lights").decode())
    client.tls_set_context(ssl.create_default_context(cafile=str(running.keys / "ca.crt")))
    client.on_connect = lambda _c, _d, _f, _r, told: heard.append(told)
    client.connect("127.0.0.1", running.settings.broker.port)
    end = time.monotonic() + PATIENCE_S
    while not heard and time.monotonic() < end:
        client.loop(0.05)
    client.disconnect()
    assert getattr(heard[0], "TopicAliasMaximum", 0) == 0


def test_a_device_with_larger_packets_gives_a_warning(two_sizes):
    made = two_sizes(2048)
    with broker.Broker(made) as child:
        assert child.restart_warning() == ""
        with store.Store(made.database) as known:
            record = policy.record(max_message=4096)
            known.add_device(store.Device("D3", "relay", "UNIX", "sealed", record))
        assert "4096" in child.restart_warning()
        assert "again" in child.restart_warning()
    with broker.Broker(made) as child:
        assert child.restart_warning() == ""


def test_the_longest_orders_of_the_administrator_fit(two_sizes):
    """Accounts with the longest names, of many types: all of it reaches the plugin."""
    made = two_sizes(512)
    types = tuple(f"{number:032d}" for number in range(9))
    longest = device_account("t" * 32, "d" * 32, device_password())
    app = app_account("a" * 32, types, machine_password())
    with broker.Broker(made), registry.opened(made) as accounts:
        accounts.put(longest)
        accounts.replace_rights(wipe_only_account("t" * 32, "d" * 32))
        accounts.put(app)
    roles = {
        role["rolename"]: {(acl["acltype"], acl["topic"]) for acl in role["acls"]}
        for role in json.loads((made.broker / dynsec.FILE).read_text())["roles"]
    }
    assert roles[app.role] == _acls(app)
    assert roles[longest.role] == _acls(wipe_only_account("t" * 32, "d" * 32))


def _acls(account):
    return {(entry["acltype"], entry["topic"]) for entry in dynsec.acl_entries(account)}
