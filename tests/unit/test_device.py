"""The façade: what becomes of a command whose handler fails, and of an event that can't be sent."""

import asyncio
import sys

sys.path.append(
    __file__.rsplit("/", 1)[0] + "/../../build/umqtt"
)  # where `make setup` puts umqtt.simple

from harness import check, equal, raises  # noqa: E402
from models import DictStore, RootKey  # noqa: E402
from test_bundle import good  # noqa: E402
from warden.bundle import install  # noqa: E402
from warden.device import Device  # noqa: E402
from warden.errors import PeerError, UsageError  # noqa: E402
from warden.inbox import Job  # noqa: E402
from warden.vault import Vault  # noqa: E402
from warden.wire import cbor  # noqa: E402


class Clock:
    def now(self):
        return 1800000000

    def set(self, unix_time):
        return True


def made():
    store = DictStore()
    vault = Vault(store, RootKey())
    install(vault, cbor.encode(good()))
    said = []
    device = Device(vault, Clock(), None, 1700000000, lambda code, text: said.append((code, text)))
    return device, said


def obey(handler):
    """The bodies that were answered, and what was logged."""
    device, said = made()
    answers = []

    def answer(body):
        cbor.encode(body)
        if len(cbor.encode(body)) > 1000:
            raise UsageError("bad-argument", "too large")
        answers.append(body)

    async def run():
        job = Job(handler, {"on": 1}, "set_relay", answer)
        job.finish(await job.obey(device._log), device._log)

    asyncio.run(run())
    return answers, [code for code, _ in said]


FAILED = [{"ok": False, "error": "command-failed"}]


def test_results():
    equal(obey(lambda args: {"on": args["on"]}), ([{"ok": True, "result": {"on": 1}}], []))
    equal(obey(lambda args: None), ([{"ok": True, "result": None}], []))

    async def slowly(args):
        await asyncio.sleep_ms(1)
        return args["on"] + 1

    equal(obey(slowly), ([{"ok": True, "result": 2}], []))


def test_a_handler_that_raises():
    def broken(args):
        return args["off"]

    async def broken_later(args):
        raise ValueError("of no concern to a peer")

    for handler in (broken, broken_later, lambda args: 1 // 0):
        equal(obey(handler), (FAILED, ["command-failed"]))


def test_a_result_that_no_reply_can_hold():
    for result in (object(), 1 << 65, {1.5: 1}, b"x" * 2000):
        equal(obey(lambda args, result=result: result), (FAILED, ["command-failed"]))


def test_a_reply_that_nobody_waits_for():
    device, said = made()

    def answer(body):
        raise PeerError("no-session")

    Job(None, {}, "set_relay", answer).finish({"ok": True, "result": None}, device._log)
    equal([code for code, _ in said], ["no-session"])


def test_events_of_our_own():
    device, _ = made()

    async def publish(event, body):
        await device.publish(event, body)

    for event in (
        "hello",
        "ready",
        "reply",
        "incident",
        "offline",
        "server_uid_request",
        "update",
        "gate",
        "server_otp_request",
        "device_otp_response",
        "",
        "Up",
        "a/b",
        "#",
    ):
        raises("bad-name", asyncio.run, publish(event, {}))


def test_an_event_that_the_host_would_refuse():
    device, _ = made()

    async def publish(body):
        await device.publish("temperature", body)

    for body in (None, [], "x", 1, {1: 2}, {"a": 1, b"b": 2}, {None: 0}):
        raises("bad-argument", asyncio.run, publish(body))


def test_an_agent_that_fails_starts_over():
    device, said = made()
    resets = []
    device._on_fatal = lambda: resets.append(1)

    async def broken():
        raise OSError(5)

    asyncio.run(device._guard(broken()))
    equal((resets, said[0][0]), ([1], "agent-failed"))


def test_commands_are_registered():
    device, _ = made()

    @device.command("set_relay")
    def set_relay(args):
        return None

    check(device._commands.find("home", "set_relay") is set_relay)
    raises("bad-name", device.command("set_relay"), set_relay)
    raises("bad-name", device.command("wipe"), set_relay)


def queued(appid, late="", handler=None):
    ran = []
    job = Job(handler or ran.append, {}, "blink", ran.append, appid, lambda now_ms: late)
    return job, ran


def test_a_command_that_waited_too_long():
    for late in ("expired", "old-session"):
        device, _ = made()
        job, ran = queued("home", late)
        equal(asyncio.run(device._obey(job)), {"ok": False, "error": late})
        equal(ran, [])
        equal([row["code"] for row in device._incidents.take()], [late])


def test_a_handler_that_was_cancelled():
    async def cancelled(args):
        raise asyncio.CancelledError

    device, said = made()
    job, _ = queued("home", "", cancelled)
    equal(asyncio.run(device._obey(job)), FAILED[0])
    check("command-failed" in [code for code, _ in said])


def test_the_authority_goes_first_and_none_fills_the_queue():
    device, _ = made()

    class Waiting:
        def take(self, topic, payload, retained, now_ms):
            return self.job

    device._inbox = Waiting()
    answered = []
    for appid in ("home", "home", "home", "authority"):
        device._inbox.job = Job(None, {}, "blink", answered.append, appid)
        device._on_message(b"", b"", False)
    equal(answered, [{"ok": False, "error": "busy"}])
    equal([job.appid for job in device._jobs], ["home", "home", "authority"])
    equal([device._next_job().appid for _ in range(3)], ["authority", "home", "home"])
