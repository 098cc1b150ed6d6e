"""Device and agent: handlers that fail, events that cannot be sent, links that end."""

import asyncio
import gc
import sys

from agent_kit import FLOOR, Clock, Rig, provisioned
from harness import check, equal, link_failure, raises
from incident_kit import collect
from test_bundle import good
from test_policy import DEFAULT
from warden.agent import agent as agent_module
from warden.agent import leaving
from warden.agent.device import Device
from warden.errors import LinkError, UsageError
from warden.net.brokers import Brokers
from warden.session.command import Refused
from warden.session.inbox import Call
from warden.wire import cbor
from warden.wire.mqtt import publish


def run_handler(handler):
    """The bodies that were answered, and what was logged."""
    rig = Rig()
    answers = []

    def answer(body):
        cbor.encode(body)
        if len(cbor.encode(body)) > 1000:
            raise UsageError("bad-argument", "too large")
        answers.append(body)

    async def run():
        call = Call((handler, False), {"on": 1}, "set_relay", answer)
        reply = call.run(rig.agent.log)
        call.finish(await reply if hasattr(reply, "send") else reply, rig.agent.log)

    asyncio.run(run())
    return answers, rig.codes()


FAILED = [{"ok": False, "error": "command-failed"}]


def test_a_handler_s_result_is_the_reply():
    equal(run_handler(lambda args: {"on": args["on"]}), ([{"ok": True, "result": {"on": 1}}], []))
    equal(run_handler(lambda args: None), ([{"ok": True, "result": None}], []))

    async def slowly(args):
        await asyncio.sleep_ms(1)
        return args["on"] + 1

    equal(run_handler(slowly), ([{"ok": True, "result": 2}], []))


def test_a_handler_that_raises():
    def broken(args):
        return args["off"]

    async def broken_later(args):
        raise ValueError("of no concern to a peer")

    for handler in (broken, broken_later, lambda args: 1 // 0):
        equal(run_handler(handler), (FAILED, ["command-failed"]))


def test_a_result_that_no_reply_can_hold():
    for result in (object(), 1 << 65, {1.5: 1}, b"x" * 2000):
        equal(run_handler(lambda args, result=result: result), (FAILED, ["command-failed"]))


def test_a_reply_after_its_session_ended():
    rig = Rig()

    def answer(body):
        raise LinkError("no-session")

    Call((None, False), {}, "set_relay", answer).finish(
        {"ok": True, "result": None}, rig.agent.log
    )
    equal(rig.codes(), ["no-session"])


def test_names_of_warden_s_own_events_are_refused():
    device = Rig().device

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
    device = Rig().device

    async def publish(body):
        await device.publish("temperature", body)

    for body in (None, [], "x", 1, {1: 2}, {"a": 1, b"b": 2}, {None: 0}):
        raises("bad-argument", asyncio.run, publish(body))


def test_an_agent_that_fails_starts_over():
    rig = Rig()

    async def broken():
        raise OSError(5)

    asyncio.run(rig.agent._guard(broken()))
    equal((rig.restarts, rig.codes()), (1, ["agent-failed"]))


def test_an_agent_starts_over_without_the_memory_to_save_anything():
    rig = Rig()

    def save(agent):
        raise MemoryError

    saved, leaving.save = leaving.save, save
    try:
        rig.agent.restart()
        check(False, "it saved")
    except MemoryError:
        equal(rig.restarts, 1)
    finally:
        leaving.save = saved


def test_a_failure_that_nothing_restarts():
    agent = Rig(restarts=False).agent

    async def broken():
        raise OSError(5)

    try:
        asyncio.run(agent._guard(broken()))
        check(False, "it went on")
    except RuntimeError as error:
        check("OSError" in str(error), str(error))


def test_a_feature_that_is_done_is_no_failure():
    rig = Rig()

    async def done():
        return True

    asyncio.run(rig.agent._guard(done()))
    equal((rig.restarts, rig.codes()), (0, []))


def test_the_last_will_of_each_mode():
    """Its topic says it all: a sealed device sends no more at each log-in."""
    plain = good()
    plain["policy"] = cbor.encode(dict(DEFAULT, mode="plain"))
    for bundle, body in (
        (good(), b"{}"),
        (plain, b'{"event": "offline", "deviceId": "lamp-1"}'),
    ):
        client = Rig(provisioned(bundle)).agent.client
        equal(client.will, (b"iot-2/type/lamp/id/lamp-1/evt/offline/fmt/json", body, 0))


def test_commands_are_registered():
    rig = Rig()
    device = rig.device

    @device.command("set_relay")
    def set_relay(args):
        return None

    equal(rig.agent.commands.find("home", "set_relay"), (set_relay, False))

    @device.command("get_relay", call=True)
    def get_relay(args, call):
        return None

    rig.agent.commands.grant("home", ("get_relay",))
    equal(rig.agent.commands.find("home", "get_relay"), (get_relay, True))
    raises("bad-name", device.command("set_relay"), set_relay)
    raises("bad-name", device.command("wipe"), set_relay)


def test_secrets():
    device = Rig().device
    device.secrets.set("web", b"key")
    equal((device.secrets.get("web"), device.secrets.names()), (b"key", ["web"]))
    asyncio.run(device.stop())
    raises("closed", device.secrets.get, "web")


class Session:
    """A session that ends when its ID changes."""

    sid = b"12345678"


def queued(appid, handler=None, wants_call=False, session=None, deadline_ms=None):
    ran = []
    handler = handler or ran.append
    call = Call((handler, wants_call), {}, "blink", ran.append, appid, session, deadline_ms)
    return call, ran


def test_a_command_that_waited_too_long():
    for code in ("expired", "old-session"):
        rig = Rig()
        session = Session()
        job, ran = queued("home", session=session, deadline_ms=-1 if code == "expired" else 60000)
        if code == "old-session":
            session.sid = b"87654321"
        equal(asyncio.run(rig.agent._run_call(job)), {"ok": False, "error": code})
        equal(ran, [])
        equal([row["code"] for row in rig.incidents()], [code])


def test_a_handler_learns_who_asks_and_how_long_the_command_is_valid():
    rig = Rig()
    seen = []

    def handler(args, call):
        seen.append((args, call.appid, call.command, call.left_ms))
        return 5

    for deadline_ms, left in ((60000, True), (None, False)):
        job, _ = queued("home", handler, True, Session(), deadline_ms)
        equal(asyncio.run(rig.agent._run_call(job)), {"ok": True, "result": 5})
        args, appid, command, left_ms = seen.pop()
        equal((args, appid, command), ({}, "home", "blink"))
        if left:
            check(50000 < left_ms <= 60000, str(left_ms))
        else:
            equal(left_ms, None)


def test_a_handler_refuses_with_a_reason():
    def refuse(args):
        raise Refused("door-open")

    async def refuse_later(args):
        raise Refused("door-open")

    for handler in (refuse, refuse_later):
        answer = {"ok": False, "error": "door-open"}
        equal(run_handler(handler), ([answer], ["command-refused"]))

    def refuse_as_warden(args):
        raise Refused("not-allowed")

    equal(run_handler(refuse_as_warden), (FAILED, ["command-failed"]))


def test_no_error_of_a_handler_ends_the_agent_or_speaks_for_warden():
    """Also one that is broken itself: a Refused without its code or with another one, a text that
    can't be made."""

    class Bare(Refused):
        def __init__(self):
            pass

    class Mute(Exception):
        def __str__(self):
            raise MemoryError()

        __repr__ = __str__

    def raising(error, code=None):
        def handler(args):
            if code is not None:
                error.code = code
            raise error

        return handler

    for handler in (
        raising(Bare()),
        raising(Mute()),
        raising(Refused("door-open"), "expired"),
        raising(Refused("door-open"), "x" * 33),
        raising(Refused("door-open"), {1}),
    ):
        equal(run_handler(handler), (FAILED, ["command-failed"]))


def test_the_log_has_the_traceback_of_a_handler_and_the_reply_has_not():
    def broken(args):
        return args["a secret of the caller"]

    rig = Rig()
    job, _ = queued("home", broken)
    equal(asyncio.run(rig.agent._run_call(job)), FAILED[0])
    ((code, text),) = rig.logged
    equal(code, "command-failed")
    check(text.startswith("blink: Traceback"), text)
    check("in broken" in text and "KeyError" in text, text)


def test_a_handler_that_was_cancelled():
    async def cancelled(args):
        raise asyncio.CancelledError

    rig = Rig()
    job, _ = queued("home", cancelled)
    equal(asyncio.run(rig.agent._run_call(job)), FAILED[0])
    check("command-failed" in rig.codes())


def test_the_authority_goes_first_and_none_fills_the_queue():
    rig = Rig().start_without_tasks()
    rig.agent.sessions[0].up = True

    class Waiting:
        pause_ms = 0

        def receive(self, topic, payload, retained, now_ms):
            return self.job

    rig.agent.inbox = Waiting()
    answered = []
    for appid in ("home", "home", "home", "authority"):
        rig.agent.inbox.job = Call((None, False), {}, "blink", answered.append, appid)
        rig.agent.on_message(b"", b"", False)
    equal(answered, [{"ok": False, "error": "busy"}])
    equal([job.appid for job in rig.agent._calls], ["home", "home", "authority"])
    equal([rig.agent._next_call().appid for _ in range(3)], ["authority", "home", "home"])


# -- missing modules ---------------------------------------------------------------------------


def test_a_library_that_is_missing():
    """Without umqtt, a log-in says so, and does not speak of an attribute."""
    import warden
    from warden.net.umqtt_adapter import Packets

    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if "umqtt" in name}
    path = sys.path[:]
    sys.path[:] = [each for each in path if each.endswith("lib")]
    try:
        try:
            Packets()
            check(False, "umqtt was found")
        except ImportError as error:
            check("umqtt" in str(error), str(error))
        for name in ("nothing", "umqtt"):
            try:
                getattr(warden, name)
                check(False, "it was found")
            except AttributeError as error:
                equal(error.args, (name,))
    finally:
        sys.path[:] = path
        sys.modules.update(kept)


# -- links that end -----------------------------------------------------------------------------


class Net:
    """A network and a client whose links end as `ends` says.

    ends: (code, whether the log-in was accepted, milliseconds until the end) of each; without a
    code there is no memory for the link.
    """

    def __init__(self, ends, joins=True):
        self.ends = list(ends)
        self.accepted = False
        self.connected = False
        self.joins = 0
        self.waits = []
        self.servers = []
        self.rig = Rig()
        self.agent = self.rig.agent
        self.agent.client = self
        self.agent.network = self if joins else Wired()
        self.now = 0
        self.agent.now_ms = lambda: self.now

    # -- the network

    async def up(self, timeout_ms):
        pass

    def failed(self):
        self.joins += 1

    # -- the client

    async def subscribe(self, topic, qos):
        pass

    async def connect(self, link, host, port, deadline_ms):
        equal(gc.threshold(), -1)  # no collection in the hand-shake
        self.servers.append((host, port))
        if not self.ends:
            raise asyncio.CancelledError
        self.accepted = self.ends[0][1]
        if not self.accepted:
            self.end()

    async def pump(self):
        check(gc.threshold() > 0)
        self.end()

    def end(self):
        code, _, took_ms = self.ends.pop(0)
        self.now += took_ms
        if code is None:
            raise MemoryError
        raise link_failure(code)

    # -- the test's side

    def run(self):
        """(the ceiling of each wait, the incidents' codes)."""

        async def pause(ms):
            check(ms <= self.agent.backoff._ceiling_ms)

        backoff = self.agent.backoff
        draw = backoff.next_ms

        def next_ms():
            self.waits.append(backoff._ceiling_ms)
            return draw()

        backoff.next_ms = next_ms
        saved = agent_module.asyncio.sleep_ms
        agent_module.asyncio.sleep_ms = pause
        try:
            asyncio.run(self.agent._keep_connected())
        except asyncio.CancelledError:
            pass
        finally:
            agent_module.asyncio.sleep_ms = saved
        return self.waits, [body["code"] for body in self.rig.incidents()]


class Wired:
    """A network without a way to join anew."""

    async def up(self, timeout_ms):
        pass


def test_a_connection_without_memory_asks_updates_to_make_room():
    class Updates:
        asked = 0

        def make_room(self):
            self.asked += 1

    for ota in (Updates(), None):
        net = Net([])
        net.agent.ota = ota
        attempts, logged = [MemoryError(), asyncio.CancelledError()], []
        net.agent.log = lambda code, text, logged=logged: logged.append(code)

        async def up(timeout_ms, attempts=attempts):
            raise attempts.pop(0)

        net.up = up
        net.run()
        equal(logged, ["out-of-memory", "link-wait"])
        equal(ota and ota.asked, ota and 1)


def test_what_explains_a_hand_shake_goes_where_memory_is_short():
    from warden.agent import link_failure  # in the build for boards with net/failures.py

    del link_failure
    Net([(None, False, 1)]).run()
    for name in ("warden.agent.link_failure", "warden.failures"):
        check(name not in sys.modules, name)


def test_a_heap_in_pieces_restarts_a_board_that_was_connected():
    short, up = [(None, False, 1)], [("link-closed", True, 1)]
    for ends, restarts in (
        (short * 9, False),  # more would not be there after a restart
        (up + short * 4, False),
        (up + short * 5, True),
        ((up + short * 4) * 2, False),
    ):
        net = Net(ends)
        try:
            net.run()
            check(not restarts, "it went on")
        except MemoryError:
            check(restarts, "the agent ended")
        equal(net.ends, [])


def test_a_network_that_reaches_no_broker_is_joined_again():
    for codes, joins in (
        (["unreachable"] * 2, 0),
        (["unreachable"] * 3, 1),
        (["link-timeout", "unreachable", "link-timeout"], 1),
        (["unreachable"] * 7, 2),
        # A peer that answers shows that the network works.
        (["unreachable", "unreachable", "tls-failed"] * 3, 0),
    ):
        net = Net([(code, False, 1) for code in codes])
        net.run()
        equal(net.joins, joins, str(codes))
    net = Net([("unreachable", False, 1), ("link-closed", True, 1)] * 4)
    net.run()
    equal(net.joins, 0)
    net = Net([("unreachable", False, 1)] * 4, joins=False)
    equal(net.run()[1], ["unreachable"])


def test_a_line_that_ends_in_silence_is_followed_by_one_attempt():
    """Then the network is joined again: not 77 s later, and no more often than before."""
    for count, joins in ((1, 1), (3, 1), (4, 2), (9, 2), (10, 3)):
        silent = [("link-timeout", True, 1)] + [("link-timeout", False, 10000)] * count
        net = Net(silent)
        waits, _ = net.run()
        equal(net.joins, joins, str(count))
        # backoff_min_ms, and what an attempt may take (tests/unit/net/test_link.py).
        check(waits[0] + net.agent.policy.handshake_ms // 2 <= 12000)


def test_several_brokers_share_the_attempts():
    """A network is joined anew once each was tried three times."""
    for count, joins in ((5, 0), (6, 1)):
        net = Net([("unreachable", False, 1)] * count)
        several = Brokers([["a", 1, 0], ["b", 2, 0]], 1000, 60000)
        net.agent.backoff, net.agent.server = several, several.server
        net.run()
        equal(net.joins, joins)
        equal(net.servers, ([("a", 1), ("b", 2)] * 4)[: count + 1])
    net = Net([("link-timeout", True, 1), ("link-timeout", False, 1)])
    several = Brokers([["a", 1, 0], ["b", 2, 0]], 1000, 60000)
    net.agent.backoff, net.agent.server = several, several.server
    net.run()
    equal((net.joins, net.servers), (1, [("a", 1), ("a", 1), ("b", 2)]))


def test_a_captive_portal_is_told_and_left():
    for code in ("no-tls", "certificate-untrusted"):
        for proved, joins in ((False, 3), (True, 0)):
            net = Net([(code, False, 1)] * 3)
            net.proved = proved
            _, codes = net.run()
            equal((net.joins, "captive-portal" in codes), (joins, not proved), code)
        net = Net([(code, False, 1)] * 3, joins=False)
        check("captive-portal" not in net.run()[1])


def test_what_is_wrong_in_board_py_is_logged_and_reported():
    logged = []
    sentence = "WATCHDGO is no name of board.py"
    device = Device(
        provisioned(), Clock(), None, FLOOR, lambda *both: logged.append(both), wrong=[sentence]
    )
    equal(logged, [("no-board", sentence)])
    equal(collect(device._agent.incidents), [{"code": "no-board", "n": 1, "at": "board"}])


def test_a_network_learns_that_a_session_is_up():
    class Network:
        def __init__(self):
            self.good_ones = 0

        def good(self):
            self.good_ones += 1

    for network in (Network(), None):
        rig = Rig().start_without_tasks()
        rig.agent.network = network
        rig.agent._check_sessions()
        equal(network is None or network.good_ones == 0, True)
        for _ in range(2):  # once for each connection
            rig.agent.sessions[0].up = True
            rig.agent._check_sessions()
            check(rig.agent.session_up.is_set())
        equal(network is None or network.good_ones == 1, True)


def test_the_wait_before_the_next_connection():
    """A refused log-in is followed by the longest wait, an accepted one by a minute at most."""
    waits, _ = Net([("mqtt-refused", False, 1)] * 2).run()
    equal(waits, [60000, 60000])
    for code in ("mqtt-refused", "mqtt-malformed", "link-closed", "link-timeout"):
        net = Net([(code, True, 1)] * 3)
        equal(net.run()[0], [1000, 2000, 4000])
        check([text for said, text in net.rig.logged if said == "link-wait"])
        net = Net([("tls-failed", False, 1)] + [(code, True, 1)] * 3)
        net.agent.backoff.most_ms = net.agent.backoff._ceiling_ms = 3600000
        equal(net.run()[0], [3600000, 60000, 60000, 60000])


def test_a_lost_or_refused_route_is_tried_again_soon():
    """The wait's ceiling grows with the time for which the broker is away, and not by doubling."""
    for code in ("unreachable", "link-timeout", "link-closed"):
        waits, _ = Net([(code, True, 60000)] + [(code, False, 8000)] * 6).run()
        if code == "link-closed":  # as a broker does that restarts
            equal(waits, [500, 1000, 2000, 4000, 7000, 8000, 9000])
        else:
            equal(waits, [1000, 2000, 4000, 6000, 7000, 8000, 9000])
        waits, _ = Net([(code, False, 80000)] * 8).run()
        equal(waits[-1], 60000)
    # After a refused log-in too, whose wait is the longest.
    waits, _ = Net([("mqtt-refused", False, 1), ("unreachable", False, 7999)]).run()
    equal(waits, [60000, 4000])


def test_a_network_that_reaches_no_broker_is_joined_more_and_more_rarely():
    joins = []
    for count in range(1, 50):
        net = Net([("unreachable", False, 1)] * count)
        net.run()
        joins.append(net.joins)
    equal([at + 1 for at in range(1, 49) if joins[at] > joins[at - 1]], [3, 6, 12, 24, 48])


def test_a_refused_subscription_is_no_refused_password():
    asked = []

    class Rotation:
        def choose_secrets(self):
            pass

        def check(self):
            pass

        def failed(self, error):
            asked.append(error.code)
            return False

    net = Net([("mqtt-refused", True, 1), ("mqtt-refused", False, 1), ("link-closed", True, 1)])
    net.agent.rotation = Rotation()
    net.run()
    equal(asked, ["mqtt-refused", "link-closed"])


def test_another_client_with_the_same_name_is_reported():
    closed = ("link-closed", True, 500)
    for ends, times in (
        ([closed] * 2, 0),
        ([closed] * 3, 1),
        ([closed] * 6, 2),
        ([("link-closed", False, 500)] * 3, 0),
        ([("link-closed", True, 60001)] * 3, 0),
        ([closed, closed, ("link-timeout", True, 500), closed], 0),
    ):
        net = Net(ends)
        codes = net.run()[1]
        equal([code for code, _ in net.rig.logged].count("link-taken"), times)
        equal("link-taken" in codes, times > 0)


def test_each_connection_begins_with_hellos():
    rig = Rig().start_without_tasks()
    agent = rig.agent
    names = [agent.names.event("hello", "cose").encode()] * len(agent.sessions)
    check(len(names) > 0)
    first, second = agent.client.greet(), agent.client.greet()
    equal([topic for topic, _ in first], names)
    equal([topic for topic, _ in second], names)
    check(not {bytes(data) for _, data in first} & {bytes(data) for _, data in second})
    # They are sent: what is due next is their repetition.
    now = agent.now_ms()
    check(all(session.due_ms() > now for session in agent.sessions))


def test_a_message_above_the_limit_is_counted():
    rig = Rig().start_without_tasks()
    agent = rig.agent
    names = agent.names
    for topic in (names.command("set_relay", "cose").encode(), b"", b"any/other", b"\xff"):
        agent.on_skipped(topic, b"")
    seen = [(body["code"], body["at"], body["n"]) for body in rig.incidents()]
    equal(sorted(seen), [("mqtt-too-large", "", 3), ("mqtt-too-large", "set_relay", 1)])
    check(agent.client._on_skipped == agent.on_skipped)


def test_max_message_counts_the_whole_packet():
    """The broker takes no packet above it, and drops the connection that brings one."""
    rig = Rig()
    agent = rig.agent
    most, sent = agent.policy.max_message, []
    agent.client.post = lambda topic, data: sent.append(len(publish(topic, data)))
    topic = agent.names.event("x", "cose").encode()
    agent.post(topic, bytes(most - len(topic) - 5))
    equal(sent, [most])
    raises("bad-argument", agent.post, topic, bytes(most - len(topic) - 4))
    equal(len(sent), 1)
