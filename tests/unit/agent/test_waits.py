"""Waiting calls of an application: time-outs, acknowledged events, changes of its state."""

import asyncio

from agent_kit import Rig, provisioned
from harness import check, equal, raises
from test_bundle import bent
from test_policy import DEFAULT
from time_model import ModelTime
from warden.agent import device as device_module
from warden.agent.device import print_errors
from warden.errors import LinkError, UsageError
from warden.wire import cbor


class Session:
    """A session that seals by writing its counter in front of the body."""

    def __init__(self, appid, authority=False, up=True):
        self.appid, self.authority, self.up = appid, authority, up
        self.counter = 0

    def seal(self, event, id, body):
        self.counter += 1
        return b"%s %d" % (self.appid.encode(), self.counter)

    def seal_event(self, aad, body):
        return self.seal("", 0, body)

    def drop(self):
        self.up = False


class Broker:
    """A client and its broker. answers: a word for each message of QoS 1; then it stays silent."""

    connected = True
    owes = False

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []

    def post(self, topic, data):
        self.sent.append((0, bytes(data)))

    async def publish(self, topic, data, qos):
        self.sent.append((qos, bytes(data)))
        answer = self.answers.pop(0) if self.answers else "silence"
        await asyncio.sleep_ms(0)
        if answer == "silence":
            await asyncio.Event().wait()
        if answer == "link-closed":
            raise LinkError("link-closed")

    async def disconnect(self):
        self.connected = False


def online(*sessions, answers=()):
    """A device whose sessions are up, and its broker."""
    rig = Rig()
    rig.agent.sessions = list(sessions)
    rig.agent.client = broker = Broker(*answers)
    rig.agent.session_up.set()
    rig.device._parts = None
    return rig, broker


def run(work):
    """Run the coroutine on a clock that only waiting moves; one that waits for ever fails."""
    with ModelTime():
        return asyncio.run(asyncio.wait_for_ms(work, 60000))


def refused(code, kind, work):
    check(isinstance(raises(code, run, work), kind))


HOME, GARAGE, AUTHORITY = "home", "garage", "authority"


# -- QoS 1 ----------------------------------------------------------------------------------------


def test_an_event_is_acknowledged_for_each_application():
    rig, broker = online(
        Session(AUTHORITY, True), Session(HOME), Session(GARAGE), answers=["ack", "ack"]
    )
    run(rig.device.publish("door", {}, qos=1))
    equal(broker.sent, [(1, b"home 1"), (1, b"garage 1")])
    run(rig.device.publish("door", {}))
    equal(broker.sent[2:], [(0, b"home 2"), (0, b"garage 2")])


def test_an_event_waits_for_its_acknowledgement():
    rig, broker = online(Session(HOME))
    done = []

    async def publish():
        await rig.device.publish("door", {}, qos=1)
        done.append(1)

    async def work():
        task = asyncio.create_task(publish())
        await asyncio.sleep_ms(20)
        task.cancel()

    run(work())
    equal((broker.sent, done), ([(1, b"home 1")], []))


def test_an_event_that_was_not_acknowledged_is_sealed_and_sent_again():
    """To the application whose copy the broker did not acknowledge, and to no other."""
    home, garage = Session(HOME), Session(GARAGE)
    rig, broker = online(home, garage, answers=["ack", "link-closed", "ack"])
    run(rig.device.publish("door", {}, qos=1))
    equal(broker.sent, [(1, b"home 1"), (1, b"garage 1"), (1, b"garage 2")])
    equal(rig.codes(), ["link-closed"])


def test_an_application_that_is_away_after_the_reconnect_is_waited_for():
    home, garage = Session(HOME), Session(GARAGE)
    rig, broker = online(home, garage, answers=["ack", "link-closed", "ack"])

    async def lose_and_return():
        while not rig.logged:
            await asyncio.sleep_ms(0)
        garage.up = False
        await asyncio.sleep_ms(150)
        equal(len(broker.sent), 2)
        garage.up = True

    async def work():
        task = asyncio.create_task(lose_and_return())
        await rig.device.publish("door", {}, qos=1)
        await task

    run(work())
    equal(broker.sent, [(1, b"home 1"), (1, b"garage 1"), (1, b"garage 2")])


def test_one_copy_while_a_rotation_has_two_sessions():
    rig, broker = online(Session(HOME), Session(HOME), answers=["ack", "ack"])
    run(rig.device.publish("door", {}, qos=1))
    equal(broker.sent, [(1, b"home 1")])


def test_an_event_for_one_application():
    rig, broker = online(Session(AUTHORITY, True), Session(HOME), answers=["ack"])
    run(rig.device.publish("door", {}, AUTHORITY, 1))
    equal(broker.sent, [(1, b"authority 1")])


def test_plain_mode_is_acknowledged_too():
    rig, broker = online(answers=["ack"])

    class Plain:
        def event(self, event, fields):
            return b"%s" % event.encode()

    rig.agent.plain = Plain()
    run(rig.device.publish("door", {}, qos=1))
    equal(broker.sent, [(1, b"door")])


def test_the_packet_id_counts_to_the_limit():
    """max_message is that of the whole packet, which QoS 1 makes two bytes longer."""
    rig, _ = online(Session(HOME), answers=["ack"])
    limit = rig.agent.policy.max_message - 5 - len("topic")
    rig.agent.post(b"topic", bytes(limit))
    raises("bad-argument", rig.agent.post, b"topic", bytes(limit + 1))
    run(rig.agent.post(b"topic", bytes(limit - 2), 1))
    raises("bad-argument", rig.agent.post, b"topic", bytes(limit - 1), 1)


def test_qos_is_0_or_1():
    rig, broker = online(Session(HOME))
    for qos in (2, -1, "1", None):
        refused("bad-argument", UsageError, rig.device.publish("door", {}, qos=qos))
    equal(broker.sent, [])


# -- time-outs ------------------------------------------------------------------------------------


def test_every_wait_ends_at_its_time_out():
    rig, _ = online(Session(HOME))
    device = rig.device
    refused("link-timeout", LinkError, device.publish("door", {}, qos=1, timeout=0.02))
    refused("link-timeout", LinkError, device.changed(0.02))
    rig.agent.session_up.clear()
    refused("link-timeout", LinkError, device.publish("door", {}, timeout=0.02))
    refused("link-timeout", LinkError, device.start(0.02))
    # It goes on: another start() waits for the same session.
    rig.agent.session_up.set()
    run(device.start(60))
    run(device.publish("door", {}, timeout=60))


def test_time_outs_that_are_none():
    rig, broker = online(Session(HOME))
    for timeout in (0, -1, 500001, "1", [1], float("nan")):
        for work in (
            rig.device.start(timeout),
            rig.device.changed(timeout),
            rig.device.publish("door", {}, timeout=timeout),
        ):
            refused("bad-argument", UsageError, work)
    equal(broker.sent, [])


# -- the connection and the sessions --------------------------------------------------------------


def test_state():
    home, garage = Session(HOME, up=False), Session(GARAGE, up=False)
    rig, broker = online(Session(AUTHORITY, True, up=False), home, garage)
    device = rig.device
    equal((device.connected, device.session), (True, ()))
    home.up = True
    equal(device.session, (HOME,))
    garage.up = True
    equal(sorted(device.session), [GARAGE, HOME])
    rig.agent.sessions.append(Session(HOME))  # under the new key of a rotation
    equal(sorted(device.session), [GARAGE, HOME])
    broker.connected = False
    check(not device.connected)


def test_state_in_plain_mode():
    policy = dict(DEFAULT)
    policy["mode"] = "plain"
    rig = Rig(provisioned(bent(["policy"], cbor.encode(policy)))).start_without_tasks()
    equal(rig.device.session, ())
    rig.agent.session_up.set()
    equal(rig.device.session, (HOME,))


def test_a_change_wakes_those_who_wait():
    home = Session(HOME, up=False)
    rig, broker = online(home)
    rig.agent.session_up.clear()
    device, seen = rig.device, []

    async def watch():
        for _ in range(3):
            await device.changed()
            seen.append((device.connected, device.session))

    async def keep_time():
        """Clear the event, as the agent's task does."""
        while True:
            await rig.agent.wakeup.wait()
            rig.agent.wakeup.clear()

    async def work():
        tasks = [asyncio.create_task(watch()), asyncio.create_task(keep_time())]
        await asyncio.sleep_ms(0)
        rig.agent.wakeup.set()  # nothing changed
        await asyncio.sleep_ms(60)
        equal(seen, [])
        home.up = True
        rig.agent.wakeup.set()
        await asyncio.sleep_ms(60)
        home.up = False
        rig.agent.wakeup.set()
        await asyncio.sleep_ms(60)
        broker.connected = False
        rig.agent.wakeup.set()
        await tasks[0]
        tasks[1].cancel()

    run(work())
    equal(seen, [(True, (HOME,)), (True, ()), (False, ())])


def test_async_with_starts_and_stops():
    rig, broker = online(Session(HOME), answers=["ack"])

    async def work():
        async with rig.device as device:
            check(device is rig.device)
            await device.publish("door", {}, qos=1)
        return 1

    equal(run(work()), 1)
    equal((broker.sent, broker.connected), ([(1, b"home 1")], False))
    raises("closed", rig.agent.vault.names)


def test_nothing_is_up_after_stop():
    """What is published then waits for a session that never comes, and does not poll for it."""
    for plain in (False, True):
        rig, broker = online(Session(HOME))
        if plain:

            class Plain:
                appids = [HOME]

            rig.agent.plain = Plain()
        equal(rig.device.session, (HOME,))
        run(rig.device.stop())
        equal((rig.device.session, rig.agent.session_up.is_set()), ((), False))
        refused("link-timeout", LinkError, rig.device.publish("door", {}, qos=1, timeout=0.02))
        equal(broker.sent, [])


def test_async_with_stops_a_device_that_fails():
    """Also one that is cancelled before its session is up: nothing goes on behind the program."""
    rig, broker = online(Session(HOME))

    async def work():
        async with rig.device:
            raise ValueError("the program's own")

    try:
        run(work())
        check(False, "no error")
    except ValueError:
        pass
    check(not broker.connected)

    rig, broker = online(Session(HOME))
    rig.agent.session_up.clear()

    async def enter():
        async with rig.device:
            check(False, "it started")

    try:
        run(asyncio.wait_for_ms(enter(), 20))
        check(False, "it started")
    except asyncio.TimeoutError:
        pass
    check(not broker.connected)
    raises("closed", rig.agent.vault.names)


# -- health, and the log --------------------------------------------------------------------------


def test_a_health_check_by_decorator():
    rig = Rig()

    @rig.device.health
    def is_well():
        return True

    check(is_well() and rig.agent.health is is_well)
    # The form of earlier versions: it must not be lost in silence.
    try:
        rig.device.health = is_well
        check(False, "it was set beside the agent")
    except AttributeError:
        pass


def printed(code, text):
    lines = []
    device_module.print = lambda *words: lines.append(" ".join(words))
    try:
        print_errors(code, text)
    finally:
        del device_module.print
    return lines


def test_errors_are_printed_and_progress_is_not():
    for code in ("link-closed", "command-failed", "agent-failed", "trial-failed", "unreachable"):
        equal(printed(code, "why"), ["warden: %s why" % code])
    for code in ("link-up", "link-wait", "session-stands", "rotated", "update", "gate-open"):
        equal(printed(code, "why"), [])
    equal(printed("command-refused", "door-open"), [])
