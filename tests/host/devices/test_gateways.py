"""Gateways: what their accounts may do, and what the example's program takes from a device."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_kit import fails, said
from process_kit import PATIENCE_S
from warden_host.broker import backend
from warden_host.broker.mosquitto import dynsec
from warden_host.cli import main
from warden_host.devices import enforcement, gateways, quarantine
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.store.reactions import QUARANTINE, Reaction
from warden_host.store.store import Device, Store

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "gateway"))
import gateway as example

BASE = "iot-2/type/relay/id/D1"
DOCUMENT = {
    "devices": [["relay", "D1"]],
    "broker": {"host": "127.0.0.1", "port": 1, "user": "g:hall", "password": "x", "ca": ""}
    | {"max_packet": 2048},
}


# The accounts


def rights(fleet: Fleet, name: str = "hall") -> set[str]:
    """The topics of a gateway's role."""
    document = dynsec.load(fleet.broker)
    (role,) = [one for one in document["roles"] if one["rolename"] == f"gateway:{name}"]
    return {acl["topic"] for acl in role["acls"]}


def of_devices(fleet: Fleet) -> set[str]:
    return {topic.split("/")[4] for topic in rights(fleet)}


def test_a_gateways_life(folder, tmp_path, capsys):
    for device in ("D1", "D2", "D3"):
        assert main.run(["provision", device, "--sim"]) == 0
    assert main.run(["provision", "P1", "--sim", "--plain"]) == 0
    fleet, file = Fleet(folder), tmp_path / "hall.json"
    add = ("gateway", "add", "hall", "--out", str(file))
    fails(capsys, "device-unknown", *add, "--device", "D9")
    fails(capsys, "not-applicable", *add, "--device", "P1")
    assert main.run([*add, "--device", "D1", "--device", "D2"]) == 0
    fails(capsys, "gateway-exists", *add)
    document = json.loads(file.read_text())
    assert document["devices"] == [["relay", "D1"], ["relay", "D2"]]
    assert file.stat().st_mode & 0o777 == 0o600
    assert example.read_document(file) == document
    assert rights(fleet) == {
        f"iot-2/type/relay/id/{device}/{part}"
        for device in ("D1", "D2")
        for part in (
            *("evt/+/fmt/cose", "evt/offline/fmt/json"),
            *("cmd/#", "cmd/+/fmt/+", "cmd/+/fmt/cose"),
        )
    }
    # One that is plain by now is in the way of no change.
    assert main.run(["provision", "D2", "--sim", "--again", "--plain"]) == 0
    assert of_devices(fleet) == {"D1"}
    assert main.run(["gateway", "grant", "hall", "D3"]) == 0
    assert main.run(["gateway", "revoke", "hall", "D2"]) == 0
    assert of_devices(fleet) == {"D1", "D3"}
    fails(capsys, "gateway-unknown", "gateway", "grant", "attic", "D1")
    capsys.readouterr()
    assert main.run(["gateway", "list", "--json"]) == 0
    assert said(capsys) == {"gateway": "hall", "devices": ["D1", "D3"]}
    # A device in quarantine has the rights of its quarantine there, and all of them afterwards.
    free = rights(fleet)
    with Store(fleet.database) as store:
        assert quarantine.apply(fleet, store, "D1", Reaction(QUARANTINE, "tampered", "why", 1.0))
        limited = rights(fleet)
        assert "iot-2/type/relay/id/D1/cmd/update/fmt/cose" in limited
        assert "iot-2/type/relay/id/D1/cmd/+/fmt/cose" not in limited
        with store.transaction():
            store.end_reaction("D1")
        enforcement.enforce(fleet)  # of a command that was cut off
        assert rights(fleet) == free
    # A device that is cut off is so at its gateways, and one of another type moves along.
    assert main.run(["revoke", "D3", "--yes"]) == 0
    assert of_devices(fleet) == {"D1"}
    assert main.run(["provision", "D1", "--sim", "--again", "--type", "meter"]) == 0
    assert {topic.split("/")[2] for topic in rights(fleet)} == {"meter"}
    assert main.run(["revoke", "D1", "--wipe", "--yes"]) == 0
    assert "iot-2/type/meter/id/D1/cmd/wipe/fmt/cose" in rights(fleet)
    assert "iot-2/type/meter/id/D1/cmd/+/fmt/cose" not in rights(fleet)
    assert main.run(["gateway", "export", "hall", "--out", str(file)]) == 0
    renewed = json.loads(file.read_text())
    assert renewed["broker"]["password"] != document["broker"]["password"]
    assert main.run(["gateway", "remove", "hall"]) == 0
    names = {one["username"] for one in dynsec.load(fleet.broker)["clients"]}
    assert "g:hall" not in names
    with Store(fleet.database) as store:
        assert store.gateways() == {}


def test_many_rights_fit_into_the_running_brokers_packets(folder, tmp_path):
    devices = [f"D{number}" for number in range(6)]
    fleet = Fleet(folder)
    with Store(fleet.database) as store, store.transaction():
        for device in devices:
            store.add_device(Device(device, "relay", "UNIX", "sealed", policy.record()))
    options = [word for device in devices for word in ("--device", device)]
    with backend.Broker(fleet):
        out = str(tmp_path / "hall.json")
        assert main.run(["gateway", "add", "hall", *options, "--out", out]) == 0
        assert main.run(["gateway", "revoke", "hall", "D0"]) == 0
    assert of_devices(fleet) == set(devices[1:])


def test_changes_at_the_same_moment_both_count(folder, monkeypatch):
    """The other one ends while this one waits for the registry."""
    fleet = Fleet(folder)
    opened = gateways.open_registry
    with Store(fleet.database) as store:
        with store.transaction():
            for device in ("D1", "D2"):
                store.add_device(Device(device, "relay", "UNIX", "sealed", policy.record()))
        gateways.add(fleet, store, "hall", ("D1", "D2"))

        def after_another(of_fleet: Fleet):
            with store.transaction():
                store.set_gateway("hall", ("D1",))
            return opened(of_fleet)

        monkeypatch.setattr(gateways, "open_registry", after_another)
        assert gateways.change(fleet, store, "hall", ("D1",)) == ("D1",)
    assert of_devices(fleet) == {"D1"}


# The program


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def connect(user="d:relay:D1", client="d:relay:D1", will=f"{BASE}/evt/offline/fmt/json") -> bytes:
    body = text("MQTT") + b"\x04\xc6\x00\x3c" + text(client)
    return example.packet(example.CONNECT, body + text(will) + text("{}") + text(user) + text("p"))


def publish(topic=f"{BASE}/evt/x/fmt/cose", flags=0, number=b"") -> bytes:
    return example.packet(example.PUBLISH, text(topic) + number + b"data", flags)


class Client:
    """In the place of the connection to the broker."""

    def __init__(self) -> None:
        self.sent: list[tuple] = []

    def publish(self, *arguments):
        self.sent.append(arguments)
        return SimpleNamespace(mid=len(self.sent))

    def subscribe(self, *arguments):
        self.sent.append(arguments)
        return 0, len(self.sent)

    def unsubscribe(self, *arguments):
        self.sent.append(arguments)

    def disconnect(self):
        pass

    def loop_stop(self):
        pass


def talk(conversation, up: bool = True):
    """Run a conversation(gateway, client, open) with a gateway that has no broker."""
    document = json.loads(json.dumps(DOCUMENT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example.ssl, "create_default_context", lambda **_: SimpleNamespace())
        patch.setattr(example.mqtt.Client, "tls_set_context", lambda *_: None)
        made = example.Gateway(document, "127.0.0.1", 0)
    made._client = client = Client()

    async def run():
        made._loop = asyncio.get_running_loop()
        made._up = up
        made._server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
        port = made._server.sockets[0].getsockname()[1]

        async def opened(*data: bytes):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"".join(data))
            return reader, writer

        try:
            await asyncio.wait_for(conversation(made, client, opened), PATIENCE_S)
        finally:
            await made.stop()

    asyncio.run(run())


ACCEPTED = example.packet(example.CONNACK, b"\0\0")
# The broker would end the gateway's own connection at the first two.
STRANGE_TOPICS = (
    *("/evt/\0/fmt/cose", "/evt/" + "/" * 300, "/evt/+/fmt/cose", "/evt/#", "/evt/x"),
    *("/evt/x/fmt/text", "/evt/é/fmt/cose", "/evt/" + "x" * 65 + "/fmt/cose"),
)


@pytest.mark.parametrize(
    ("data", "answer", "up"),
    [
        (connect(user="d:relay:D2", client="d:relay:D2"), b"\x20\x02\0\x05", True),
        (connect(client="other"), b"\x20\x02\0\x05", True),
        (connect(), b"\x20\x02\0\x03", False),
        (publish(), b"", True),
        (connect().replace(b"MQTT\x04", b"MQTT\x05"), b"", True),
        (connect()[:30] + b"\xff" * 9, b"", True),
        (b"\x10\xff\xff\xff\xff\x01", b"", True),
        (example.packet(example.CONNECT, bytes(2048 - 2)), b"", True),
        (connect() + publish("iot-2/type/relay/id/D2/evt/x/fmt/cose"), ACCEPTED, True),
        (connect() + publish(f"{BASE}/cmd/x/fmt/cose"), ACCEPTED, True),
        (connect() + publish(flags=1), ACCEPTED, True),
        (connect() + publish(flags=4, number=b"\0\1"), ACCEPTED, True),
        (connect() + example.packet(example.CONNACK, b"\0\0"), ACCEPTED, True),
        (connect() + publish(flags=2, number=b"\0\1") * 40, ACCEPTED, True),
        (connect() + publish() * 40, ACCEPTED, True),
        *((connect() + publish(BASE + one), ACCEPTED, True) for one in STRANGE_TOPICS),
    ],
)
def test_what_ends_a_devices_connection(data, answer, up):
    async def conversation(_, client, opened):
        reader, writer = await opened(data, bytes(0))
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == answer
        passed = [one for one in client.sent if one[0] == f"{BASE}/evt/x/fmt/cose"]
        assert len(passed) == (
            example.MOST_UNANSWERED if data.endswith(b"data") and data.count(b"data") == 40 else 0
        )

    talk(conversation, up)


def test_what_a_device_may():
    async def conversation(gateway, client, opened):
        subscription = text(f"{BASE}/cmd/+/fmt/+") + b"\1"
        reader, writer = await opened(
            connect(),
            example.packet(example.SUBSCRIBE, b"\0\x01" + text("#") + b"\0", 2),
            example.packet(example.SUBSCRIBE, b"\0\x02" + subscription, 2),
            publish(),
            publish(flags=2, number=b"\0\x07"),
            example.packet(example.PINGREQ, b""),
        )
        refused = example.packet(example.SUBACK, b"\0\x01\x80")
        pong = example.packet(example.PINGRESP, b"")
        start = ACCEPTED + refused + pong
        assert await reader.readexactly(len(start)) == start  # nothing of the broker's yet
        assert client.sent[0] == (f"{BASE}/cmd/#", 1)
        assert client.sent[1:] == [
            (f"{BASE}/evt/x/fmt/cose", b"data", 0),
            (f"{BASE}/evt/x/fmt/cose", b"data", 1),
        ]
        gateway._on_answer(1, False)
        gateway._on_answer(3, False)
        answers = example.packet(example.SUBACK, b"\0\x02\x01")
        answers += example.packet(example.PUBACK, b"\0\x07")
        assert await reader.readexactly(len(answers)) == answers
        assert gateway._devices[BASE].unanswered == 1  # the one of QoS 0 has not left
        gateway._on_answer(2, False)
        assert gateway._devices[BASE].unanswered == 0
        for topic, retain in ((f"{BASE}/cmd/go/fmt/cose", True), ("x/cmd/go", False)):
            gateway._on_message(topic, b"not for it", retain)
        gateway._on_message(f"{BASE}/cmd/go/fmt/cose", b"sealed", False)
        message = text(f"{BASE}/cmd/go/fmt/cose") + b"\0\1sealed"
        wanted = example.packet(example.PUBLISH, message, 2)
        assert await reader.readexactly(len(wanted)) == wanted
        # A second connection of the device takes its place; its will is sent for neither.
        other, second = await opened(connect())
        assert await other.readexactly(4) == ACCEPTED
        assert await reader.read() == b""
        writer.close()
        second.write(example.packet(example.DISCONNECT, b""))
        assert await other.read() == b""
        assert len(client.sent) == 3
        # One that breaks off has its will sent, and no other.
        for will, count in ((f"{BASE}/evt/offline/fmt/json", 1), ("any/topic", 1)):
            third, broken = await opened(connect(will=will))
            assert await third.readexactly(4) == ACCEPTED
            broken.write_eof()
            assert await third.read() == b""
            assert client.sent[3:] == [(f"{BASE}/evt/offline/fmt/json", b"{}")] * count
        # The broker is gone: the devices' connections end, so that they try another gateway.
        last, _ = await opened(connect())
        assert await last.readexactly(4) == ACCEPTED
        gateway._on_broker(False)
        assert await last.read() == b""

    talk(conversation)


def test_more_connections_than_devices_need_are_closed():
    async def conversation(gateway, _, opened):
        held = [await opened() for _ in range(2 * 1 + 16)]
        reader, _ = await opened(connect())
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert all(not each.at_eof() for each, _ in held)

    talk(conversation)


def test_a_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "hall.json"
    path.write_text("{}")
    path.chmod(0o644)
    with pytest.raises(SystemExit, match="chmod 600"):
        example.read_document(path)
    path.chmod(0o600)
    with pytest.raises(SystemExit, match="no file of"):
        example.read_document(path)
