"""The inbox in plain mode, and garbage in both modes: nothing a peer sends makes it raise."""

import json

from application_model import KEY, NAMES, Refusals
from board_model import DictStore, RootKey
from harness import check, equal
from test_inbox import COSE_TOPIC, Sealed, silently
from warden.session.command import Commands
from warden.session.inbox import Inbox
from warden.session.plain import Plain
from warden.vault import Vault
from warden.wire import cbor
from warden.wire.names import COSE, JSON

PURE = True

UID = "5a" * 32


class PlainDevice:
    def __init__(self, known=True):
        vault = Vault(DictStore(), RootKey())
        vault.create()
        vault.commit({"uid_acme": bytes.fromhex(UID)} if known else {})
        self.refused = Refusals()
        commands = Commands()
        commands.grant("acme", ("set_relay", "reboot"))
        commands.register("set_relay", id)
        commands.register("open_door", id)
        self.plain = Plain(NAMES, ["acme"], vault, True, True)
        self.inbox = Inbox(NAMES, commands, self.refused, [], self.plain, None)

    def receive(self, command, data, fmt=JSON, retained=False):
        if isinstance(data, dict):
            data = json.dumps(data).encode()
        self.refused.codes = []
        topic = NAMES.command(command, fmt).encode()
        job = self.inbox.receive(topic, memoryview(bytearray(data)), retained, 0)
        out = [(event, fmt, json.loads(text)) for event, fmt, text in self.inbox.out]
        del self.inbox.out[:]
        return self.refused.codes, out, job


def plain_command(**changes):
    fields = {"cmd": "set_relay", "appid": "acme", "uid": UID, "id": 7, "args": {"on": 1}}
    fields.update(changes)
    return fields


def test_plain_a_good_command():
    device = PlainDevice()
    codes, out, job = device.receive("set_relay", plain_command())
    equal((codes, out, job.command, job.args), ([], [], "set_relay", {"on": 1}))
    job.answer({"ok": True, "result": 5})
    event, fmt, data = device.inbox.out[0]
    equal((event, fmt), ("reply", JSON))
    equal(
        json.loads(data),
        {"event": "reply", "deviceId": "front-1", "id": 7, "ok": True, "result": 5},
    )


def test_plain_a_result_that_has_no_form():
    """The command was obeyed; its caller hears that there is no result, and not nothing."""
    for result in (float("nan"), float("inf"), b"ab", {1, 2}, 1 << 64, {1: 2}, [[object()]]):
        device = PlainDevice()
        _, _, job = device.receive("set_relay", plain_command())
        job.finish(
            {"ok": True, "result": result}, lambda code, text: equal(code, "command-failed")
        )
        [(_, _, data)] = device.inbox.out
        equal(
            json.loads(data),
            {
                "event": "reply",
                "deviceId": "front-1",
                "id": 7,
                "ok": False,
                "error": "command-failed",
            },
        )


def test_plain_gates_in_their_order():
    device = PlainDevice()
    good = plain_command()
    silently(device.receive("set_relay", b"garbage", COSE, retained=True), "retained")
    silently(device.receive("set_relay", b"garbage", COSE), "sealed-refused")
    silently(device.receive("set_relay", good, COSE), "sealed-refused")
    silently(device.receive("set_relay", good, retained=True), "retained")
    silently(device.receive("set_relay", b"garbage"), "bad-body")
    silently(device.receive("set_relay", b"[]"), "bad-body")
    silently(device.receive("reboot", plain_command(uid="00" * 32, id=-1)), "wrong-application")
    silently(device.receive("open_door", plain_command()), "bad-body")
    silently(device.receive("open_door", plain_command(cmd="open_door", id=True)), "bad-body")
    for command, code in (
        ("open_door", "not-allowed"),
        ("nothing", "not-allowed"),
        ("wipe", "not-allowed"),
        ("reboot", "unknown-command"),
    ):
        codes, out, job = device.receive(command, plain_command(cmd=command))
        equal((codes, job), ([code], None))
        equal(
            out,
            [
                (
                    "reply",
                    JSON,
                    {"event": "reply", "deviceId": "front-1", "id": 7, "ok": False, "error": code},
                )
            ],
        )


def test_plain_the_id_is_no_command():
    device = PlainDevice(known=False)
    req = json.loads(device.plain.requests(0)[0])["req"]
    silently(device.receive("set_relay", plain_command()), "wrong-application")
    # The answer must come on its own topic.
    fields = {"cmd": "server_uid_response", "appid": "acme", "uid": UID, "req": req}
    silently(device.receive("set_relay", fields), "wrong-application")
    equal(device.receive("server_uid_response", fields), ([], [], None))
    silently(device.receive("server_uid_response", fields), "unexpected")
    check(device.receive("set_relay", plain_command())[2] is not None)


# -- garbage ------------------------------------------------------------------------------------


class Random:
    """The same mutations in every run."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 8) % n


def mutated(data, random):
    data = bytearray(data)
    for _ in range(1 + random.below(3)):
        kind = random.below(5)
        at = random.below(len(data) + 1)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.below(8)
        elif kind == 1 and at < len(data):
            data[at] = random.below(256)
        elif kind == 2:
            data = data[:at]
        elif kind == 3:
            data = data[:at] + bytes((random.below(256),)) * (1 + random.below(20)) + data[at:]
        else:
            data = data[:at] + data[at + 1 + random.below(8) :]
    return bytes(data)


def test_sealed_garbage_raises_nothing_and_does_nothing():
    random = Random(1)
    device = Sealed(authority=True)
    app = device.app
    hello = device.bench.hello(1000)
    keys = app.keys
    originals = [
        ("welcome", app.welcome(hello)),
        ("wake", app.wake()),
        ("ack", app.seal("ack", 1, keys=keys)),
    ]
    originals.append(("set_relay", app.seal("set_relay", 2, 7, 60, {"on": 1}, keys=keys)))
    originals.append(("set_relay", b""))
    for i in range(400):
        command, data = originals[i % len(originals)]
        bent = mutated(data, random)
        if bent == data:
            continue
        codes, out, job = device.command(command, bent)
        equal((out, job), ([], None))
        equal(len(codes), 1)
    equal(device.bench.times, [1800000000])


def test_topic_garbage_raises_nothing():
    random = Random(2)
    device = Sealed()
    for _ in range(200):
        bent = mutated(COSE_TOPIC, random)
        if bent != COSE_TOPIC:
            codes, out, job = device.receive(bent, device.app.seal("set_relay", 1))
            check(codes and not out and job is None)


def test_sealed_payload_garbage_raises_nothing():
    # From an application that has the key and lost its mind.
    random = Random(3)
    device = Sealed()
    payload = cbor.encode([7, 60, {"on": 1, "list": [1, 2.5, None, "text", b"bytes"]}])
    for counter in range(1, 200):
        bent = mutated(payload, random)
        device.command("set_relay", device.raw("set_relay", counter, bent))
    equal(KEY, device.app.key)


def test_plain_garbage_raises_nothing():
    random = Random(4)
    device = PlainDevice()
    good = json.dumps(plain_command()).encode()
    jobs = 0
    for _ in range(400):
        _, _, job = device.receive("set_relay", mutated(good, random))
        jobs += job is not None
    # Some mutations hit the arguments or the white space only.
    check(jobs < 200, "%d jobs" % jobs)
    asking = PlainDevice(known=False)
    req = json.loads(asking.plain.requests(0)[0])["req"]
    answer = json.dumps(
        {"cmd": "server_uid_response", "appid": "acme", "uid": UID, "req": req}
    ).encode()
    for _ in range(200):
        asking.receive("server_uid_response", mutated(answer, random))
