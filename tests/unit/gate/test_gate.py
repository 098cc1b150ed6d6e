"""The gate of a connected device: what it refuses, what passes, what opens it, in both modes."""

import asyncio
import gc
import json
import sys

import micropython
import warden.ota
from agent_kit import NOW, Rig, provisioned
from application_model import App
from harness import check, equal
from test_bundle import KEY, OTHER_KEY, OTHER_SEED, SEED, gated
from time_model import ModelTime
from warden import unload
from warden.errors import LinkError, PeerError, StoreError
from warden.gate.codes import code
from warden.hal.keypad import Keypad
from warden.wire import cbor
from warden.wire.names import Topics

BUILT = True
NAMES = Topics("lamp", "lamp-1")
TIME = "2026-11-22 03:00:00"
UID = "5a" * 32
BALLAST = 65536  # bytes that a module holds, to see whether its memory is free


class Lines:
    rows = columns = 1

    def drive(self, mask):
        pass

    def read(self):
        return 0

    def watch(self, call):
        return bool(micropython.schedule(call or id, None))  # its queue keeps what has run


class Keys(Keypad):
    """Only inject() presses keys, and they are polled often. broken: how often it fails."""

    broken = 0

    def poll(self):
        if self.broken:
            self.broken -= 1
            raise OSError(5)
        return min(super().poll(), 1)


class Screen:
    def __init__(self):
        self.shown = []

    def lines(self, first, second):
        self.shown.append((first, second))


class Client:
    connected = True
    owes = False

    def __init__(self):
        self.posted = []

    def post(self, topic, data):
        self.posted.append((str(topic, "utf-8").split("/")[6], bytes(data)))

    def close(self):
        pass

    async def disconnect(self):
        self.connected = False


async def forever():
    await asyncio.Event().wait()


class Stage(Rig):
    """A provisioned device without a broker; its authority and an application are modelled."""

    def __init__(self, otp=None, mode="sealed", panel=True, kept=False, **terms):
        bundle = gated(otp, **terms)
        if mode == "plain":
            policy = cbor.decode(bundle["policy"])
            policy["mode"] = "plain"
            bundle["policy"] = cbor.encode(policy)
        self.vault = provisioned(bundle)
        self.keys, self.screen = Keys(Lines(), b"5"), Screen()
        parts = (lambda args: self.keys, ()), (lambda args: self.screen, ()), kept
        super().__init__(self.vault, (lambda: parts) if panel else None)
        agent = self.agent
        agent.client = self.client = Client()
        agent._keep_connected = agent._run_timers = forever
        self.now = 0
        agent.now_ms = lambda: self.now
        self.ran = []
        self.device.command("set_relay")(self.ran.append)
        self.apps = {
            "authority": App("authority", OTHER_KEY, NAMES),
            "home": App("home", KEY, NAMES),
        }
        self.up, self.down = {}, {}

    def run(self, work):
        async def whole():
            self.start()
            try:
                await work()
            finally:
                self.end_tasks()
                await asyncio.sleep_ms(0)

        with ModelTime():
            asyncio.run(whole())

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep_ms(1)

    async def later(self, seconds):
        for _ in range(4):
            self.now += seconds * 250
            self.agent.gate and setattr(self.agent.gate, "_news", True)
            await self.settle()

    def open_session(self, appid):
        """The whole hand-shake of one application."""
        app = self.apps[appid]
        for session in self.agent.sessions:
            if session.appid == appid:
                session.start(self.now)
                hello = bytes(session.tick(self.now)[1])
                policy = self.agent.policy.digest
                self.message("welcome", app.welcome(hello, policy=policy))
                self.up[appid], self.down[appid] = 1, 0
                self.send(appid, "ack")
                check(session.up)
        if self.agent.gate is not None:
            self.agent.gate._news = True  # or half a second later

    def message(self, command, data, fmt="cose"):
        topic = NAMES.command(command, fmt).encode()
        self.agent.on_message(topic, memoryview(bytearray(data)), False)

    def send(self, appid, command, body=None, id=0):
        data = self.apps[appid].seal(command, self.down[appid], id, None, body)
        self.down[appid] += 1
        self.message(command, data)

    def answer(self, command, req, appid="authority", by="authority", **changes):
        body = {"cmd": command, "appid": appid, "uid": "", "req": req, "time": TIME}
        if command == "server_otp_response":
            body["validity"] = 300
        else:
            body.update({"isOTPValid": "true", "isTimeOut": "false"})
        body.update(changes)
        self.send(by, command, body)

    def received(self, appid="authority"):
        """Return the new messages for an application as (event, id, body); others' stay unread."""
        found, rest = [], []
        for event, data in self.client.posted:
            try:
                id, _, body = self.apps[appid].open(event, self.up[appid], data)
            except ValueError:
                rest.append((event, data))
                continue
            self.up[appid] += 1
            if event != "ready":
                found.append((event, id, body))
        self.client.posted = rest
        return found

    def incidents(self):
        return sorted((row["code"], row["n"]) for row in super().incidents())

    async def request(self):
        """The number of the request that the authority got."""
        await self.settle()
        [(event, id, body)] = self.received()
        equal((event, id, body["event"], body["deviceId"]), (event, 0, event, "lamp-1"))
        equal((event, len(body)), ("server_otp_request", 3))
        return body["req"]

    async def open(self):
        self.open_session("authority")
        req = await self.request()
        self.answer("server_otp_response", req)
        self.keys.inject(b"123456#")
        await self.settle()
        [(event, id, body)] = self.received()
        equal((event, id), ("device_otp_response", 0))
        equal(body, {"event": event, "deviceId": "lamp-1", "req": req, "otp": "123456"})
        self.answer("server_otp_validate", req)
        await self.settle()


def run_stage(stage, work):
    stage.run(lambda: work(stage))
    return stage


def test_the_application_starts_behind_the_gate():
    async def work(stage):
        started, seen, lines = [], [], stage.screen.lines
        stage.screen.lines = lambda *two: (lines(*two), seen.append(stage.agent.gate is None))

        async def application():
            await stage.device.start()
            started.append(1)

        task = asyncio.create_task(application())
        stage.open_session("home")
        await stage.settle()
        equal((started, stage.agent.gate is None), ([], False))
        await stage.open()
        equal((started, seen[-2:]), ([1], [False, True]))  # open before the display says so
        equal(stage.received(), [("gate", 0, {"open": True, "by": "otp"})])
        equal(
            stage.screen.shown,
            [("Wait", "No connection"), ("Code is made", "wait"), ("Checking", ""), ("Open", "")],
        )
        check("123456" not in repr(stage.screen.shown) + repr(stage.codes()))
        await task  # nothing of it stays in memory
        for name in ("warden.gate.gate", "warden.gate.machine", "warden.policy.otp"):
            check(name not in sys.modules)
        equal((stage.incidents(), stage.restarts), ([], 0))
        equal(stage.vault.counter("otp_used"), stage.vault.counter("otp_good"))

    run_stage(Stage(), work)


def test_its_memory_is_free_once_it_is_open():
    free = []

    def prepare(stage):  # a function of its own: the frame of work() would hold the modules
        from warden.gate import gate
        from warden.hal import display_console, keypad_matrix

        gate.ballast, keypad_matrix.ballast = bytearray(BALLAST), bytearray(BALLAST)
        display_console.more = bytearray(BALLAST)  # built, both drivers are one module
        stage.agent.gate._display_parts = display_console.make, ()
        stage.agent.gate._keypad_parts = lambda args: stage.keys, keypad_matrix.make

    async def work(stage):
        prepare(stage)
        stage.started = asyncio.create_task(stage.device.start())  # an application may keep it
        gc.collect()
        free.append(gc.mem_free())
        await stage.open()
        await stage.started
        for name in sys.modules:
            check("hal.keypad" not in name and "hal.display" not in name, name)

    stage = run_stage(Stage(), work)  # while the loop runs, frames that ended hold objects
    gc.collect()
    free.append(gc.mem_free())
    check(stage.agent.tasks and free[1] - free[0] > 3 * BALLAST - 8192, str(free))


def test_commands_before_and_after_the_gate_opens():
    async def work(stage):
        stage.open_session("home")
        stage.send("home", "set_relay", {"on": 1}, 7)
        stage.send("home", "open_door", {}, 8)  # nobody learns what there is, either
        await stage.settle()
        refused = {"ok": False, "error": "gate-shut"}
        equal(stage.received("home"), [("reply", 7, refused), ("reply", 8, refused)])
        equal((stage.ran, stage.incidents()), ([], [("gate-shut", 1), ("gate-shut", 1)]))
        await stage.open()
        stage.send("home", "set_relay", {"on": 1}, 9)
        await stage.settle()
        equal(stage.received("home"), [("reply", 9, {"ok": True, "result": None})])
        equal(stage.ran, [{"on": 1}])

    run_stage(Stage(), work)


def test_events_before_the_gate_opens():
    for before, passes in (("nothing", 0), ("telemetry", 1)):

        async def work(stage, passes=passes):
            stage.open_session("home")
            task = asyncio.create_task(stage.device.publish("temperature", {"c": 20}))
            await stage.settle()
            equal(len(stage.received("home")), passes)
            await stage.open()
            equal(len(stage.received("home")), 1 - passes)
            await task

        run_stage(Stage(before=before), work)


def test_an_event_from_before_the_start():
    """An application may publish before start(): the event waits, with or without a gate."""
    for before in ("nothing", "telemetry"):
        stage = Stage(before=before)

        async def work(stage=stage, before=before, start=stage.start):
            task = asyncio.create_task(stage.device.publish("temperature", {"c": 20}))
            await stage.settle()
            start()
            stage.open_session("home")
            await stage.settle()
            early = len(stage.received("home"))
            await stage.open()
            equal((early, early + len(stage.received("home"))), (int(before == "telemetry"), 1))
            await task

        stage.start = lambda: None
        stage.run(work)


def test_only_the_authority_answers():
    async def work(stage):
        stage.open_session("home")
        stage.open_session("authority")
        req = await stage.request()
        stage.answer("server_otp_response", req, appid="home", by="home")
        stage.answer("server_otp_response", req, by="home")
        equal(stage.incidents(), [("not-allowed", 2)])
        stage.answer("server_otp_response", req)
        stage.keys.inject(b"123456#")
        await stage.settle()
        equal(len(stage.received()), 1)
        stage.answer("server_otp_validate", req, appid="home", by="home")
        await stage.settle()
        equal((stage.incidents(), stage.received("home")), ([("not-allowed", 1)], []))
        check(stage.agent.gate is not None)

    run_stage(Stage(), work)


def test_answers_with_other_fields():
    async def work(stage):
        stage.open_session("authority")
        req = await stage.request()
        for changes in (
            {"appid": "home"},
            {"cmd": "server_otp_validate"},
            {"uid": None},
            {"more": 1},
            {"req": req[:-1] + "x"},
        ):
            fields = {"req": req}
            fields.update(changes)
            stage.answer("server_otp_response", **fields)
        stage.send("authority", "server_otp_response", {"req": req})
        stage.answer("server_otp_validate", req)
        codes = stage.incidents()
        equal(codes, [("bad-body", 5), ("unexpected", 1), ("unexpected", 1)])
        equal(stage.received(), [])  # none of them is answered
        check(stage.agent.gate is not None)
        await stage.settle()
        equal(stage.screen.shown[-1][0], "Code is made")

    run_stage(Stage(), work)


def test_wrong_codes_and_the_lock_out():
    async def work(stage):
        stage.open_session("authority")
        req = await stage.request()
        stage.answer("server_otp_response", req)
        for _ in range(2):
            stage.keys.inject(b"000000#")
            await stage.settle()
            stage.answer("server_otp_validate", req, isOTPValid="false")
            await stage.settle()
        equal(stage.incidents(), [("otp-locked", 2), ("otp-wrong", 2)])
        stage.received()
        stage.keys.inject(b"123456#")
        await stage.later(55)
        equal((stage.received(), stage.screen.shown[-1]), ([], ("Locked", "1 min")))
        await stage.later(6)
        equal(stage.screen.shown[-1], ("Press a key", ""))

    run_stage(Stage(retries=2, lock_s=60), work)


def test_the_operator_opens_the_gate():
    async def work(stage):
        stage.open_session("home")
        stage.open_session("authority")
        await stage.request()
        stage.send("home", "unlock", {"device": "lamp-1"}, 1)
        for id, args in enumerate(({}, {"device": "lamp-2"}, {"device": "lamp-1", "more": 1})):
            stage.send("authority", "unlock", args, id)
            await stage.settle()
        answers = [body["error"] for _, _, body in stage.received()]
        equal(answers, ["bad-body"] * 3)
        check(stage.agent.gate is not None)
        stage.send("authority", "unlock", {"device": "lamp-1"}, 9)
        await stage.settle()
        heard = stage.received()
        check(("reply", 9, {"ok": True, "result": {"unlocked": True}}) in heard)
        check(("gate", 0, {"open": True, "by": "unlock"}) in heard)
        check("warden.rotation.commands" not in sys.modules, "its heap is the application's")
        stage.send("authority", "unlock", {"device": "lamp-1"}, 10)
        await stage.settle()
        equal(stage.received(), [("reply", 10, {"ok": False, "error": "gate-open"})])
        equal(
            [body for _, _, body in stage.received("home")],
            [{"ok": False, "error": "not-allowed"}],
        )

    run_stage(Stage(), work)


def test_a_policy_without_unlock():
    async def work(stage):
        stage.open_session("authority")
        await stage.request()
        stage.send("authority", "unlock", {"device": "lamp-1"}, 9)
        await stage.settle()
        equal(stage.received(), [("reply", 9, {"ok": False, "error": "not-allowed"})])
        check(stage.agent.gate is not None)

    run_stage(Stage(unlock=False), work)


def test_authority_commands_pass_a_shut_gate():
    async def work(stage):
        stage.open_session("authority")
        await stage.request()
        stage.send("authority", "wipe", {"device": "another"}, 3)
        stage.send("authority", "update", {}, 4)
        await stage.settle()
        errors = [body["error"] for _, _, body in stage.received()]
        equal(errors, ["bad-body", "unknown-command"])  # their own answers, not the gate's

    run_stage(Stage(), work)


def test_offline_without_any_session():
    async def work(stage):
        task = asyncio.create_task(stage.device.start())
        await stage.settle()
        stage.keys.inject(code(SEED, 0, 6) + b"#")
        await asyncio.wait_for(task, 5)
        equal((stage.agent.gate, stage.incidents()), (None, []))
        # Told once there is somebody to tell.
        stage.open_session("authority")
        await asyncio.sleep_ms(1100)
        equal(stage.received(), [("gate", 0, {"open": True, "by": "offline"})])

    run_stage(Stage([SEED, 6, 0, None], source="hotp"), work)


def test_duress_is_reported_and_not_shown():
    seen = []
    for secret in (SEED, OTHER_SEED):

        async def work(stage, secret=secret):
            await stage.settle()
            stage.keys.inject(code(secret, 0, 6) + b"#")
            await stage.settle()
            equal(stage.incidents(), [("duress", 1)] if secret is OTHER_SEED else [])

        stage = run_stage(Stage([SEED, 6, 0, OTHER_SEED], source="hotp", duress=True), work)
        seen.append((stage.screen.shown, stage.codes(), stage.agent.gate))
    equal(seen[0], seen[1])
    check("gate-open" in seen[0][1])


def test_totp_by_the_authoritys_time():
    async def work(stage):
        unix = NOW
        stage.keys.inject(code(SEED, unix // 30, 6) + b"#")
        await stage.settle()
        equal(stage.screen.shown[-1], ("Code?", "No time yet"))
        stage.agent.link = Linked
        stage.now += 90000
        stage.open_session("authority")
        # The clock of the chip jumps, both ways: the time of the session counts.
        await stage.later(60)
        stage.agent.clock.rtc.now = lambda: 1
        stage.agent.clock.rtc.set = lambda unix: False
        stage.keys.inject(code(SEED, unix // 30 + 2, 6) + b"#")
        await stage.settle()
        equal(stage.received(), [("gate", 0, {"open": True, "by": "offline"})])

    run_stage(Stage([SEED, 6, 30, None], source="totp"), work)


class Linked:
    class verifier:
        not_before, not_after = 0, 1 << 40


class Outside:
    class verifier:
        not_before, not_after = 0, 1


def test_totp_by_a_time_that_is_not_proven():
    """Below the mark, or outside the certificate's dates."""
    for link, mark, said in ((Linked, 1900000000, []), (Outside, 1, ["certificate-dates"])):
        refused = []

        async def work(stage, link=link, refused=refused):
            stage.agent.link = link
            app = stage.apps["authority"]
            session = stage.agent.sessions[0]
            session.start(0)
            hello = bytes(session.tick(0)[1])
            try:
                stage.message("welcome", app.welcome(hello, policy=stage.agent.policy.digest))
            except PeerError as error:
                refused.append(error.code)
            stage.keys.inject(code(SEED, 60000000, 6) + b"#")
            await stage.settle()
            equal(stage.screen.shown[-1], ("Code?", "No time yet"))
            equal(stage.vault.counter("otp_used"), 0)

        stage = Stage([SEED, 6, 30, None], source="totp")
        stage.vault.advance("time", mark)
        run_stage(stage, work)
        equal(refused, said)


def test_totp_by_a_clock_that_a_battery_keeps():
    async def work(stage):
        stage.keys.inject(code(SEED, NOW // 30, 6) + b"#")
        await stage.settle()
        check(stage.agent.gate is None)

    run_stage(Stage([SEED, 6, 30, None], source="totp", kept=True), work)


def test_totp_by_a_clock_whose_battery_was_out():
    """A clock that stopped, or that a certificate set: past codes must not open the gate."""

    def lost(clock, vault):
        vault.advance("time", NOW + 1)
        clock.start()

    def tentative(clock, vault):
        check(clock.try_at(NOW + 1000))

    for happens in (lost, tentative):

        async def work(stage, happens=happens):
            happens(stage.agent.clock, stage.vault)
            stage.keys.inject(code(SEED, NOW // 30, 6) + b"#")
            await stage.settle()
            equal(stage.screen.shown[-1], ("Code?", "No time yet"))
            equal(stage.vault.counter("otp_used"), 0)

        run_stage(Stage([SEED, 6, 30, None], source="totp", kept=True), work)


def test_no_keypad_no_gate():
    async def work(stage):
        equal((stage.incidents(), stage.codes()), ([("otp-no-keypad", 1)], ["otp-no-keypad"]))
        check(stage.agent.gate is None)
        stage.open_session("home")
        await stage.device.start()

    run_stage(Stage(panel=False), work)


def test_a_keypad_that_does_not_answer():
    async def work(stage):
        stage.keys.broken = 1
        await stage.settle()
        equal(stage.incidents(), [("keypad-failed", 1)])
        stage.keys.inject(b"1")
        check(stage.agent.gate is not None)
        await asyncio.sleep_ms(1100)
        equal(stage.codes().count("keypad-failed"), 1)
        check(not stage.keys.keys)  # it is read again
        stage.keys.broken = 1 << 20
        stage.open_session("authority")
        stage.send("authority", "unlock", {"device": "lamp-1"}, 9)
        await asyncio.sleep_ms(1100)
        check(stage.agent.gate is None)

    run_stage(Stage(), work)


def test_a_keypad_that_interrupts():
    """Nobody looks while nothing is pressed, and a key is there at once."""

    class Quiet(Lines):
        def watch(self, call):
            self.call = call
            return True

    class Counted(Keypad):
        looks = 0

        def poll(self):
            self.looks += 1
            return super().poll()

    async def work(stage):
        stage.keys = keys = Counted(Quiet(), b"5")
        stage.open_session("authority")
        await asyncio.sleep_ms(300)
        check(1 <= keys.looks <= 3, keys.looks)
        await asyncio.sleep_ms(400)
        stage.answer("server_otp_response", (await stage.request()))
        await asyncio.sleep_ms(20)
        equal(stage.screen.shown[-1], ("Code? 5 min", ""))
        for key in (b"1", b"2"):
            before = keys.looks
            keys.inject(key)
            keys._lines.call(None)
            await asyncio.sleep_ms(20)
            check(before < keys.looks <= before + 3)
        equal(stage.screen.shown[-1], ("Code? 5 min", "**"))
        before = keys.looks
        await asyncio.sleep_ms(4000)
        check(keys.looks <= before + 3)  # the last key was let go of meanwhile
        stage.send("authority", "unlock", {"device": "lamp-1"}, 9)
        await asyncio.sleep_ms(20)
        equal(stage.agent.gate, None)
        equal(keys._lines.call, None)  # an interrupt that stays would hold all of the gate's code

    run_stage(Stage(), work)


def test_time_alone_is_shown_and_nothing_twice():
    """Nobody presses a key and no message comes."""

    async def work(stage):
        stage.open_session("authority")
        stage.answer("server_otp_response", (await stage.request()))
        await asyncio.sleep_ms(600)
        count = len(stage.screen.shown)
        equal(stage.screen.shown[-1], ("Code? 5 min", ""))
        await asyncio.sleep_ms(5000)
        equal(len(stage.screen.shown), count)
        stage.now += 300000
        await asyncio.sleep_ms(600)
        equal(stage.screen.shown[count:], [("Press a key", "Code expired")])

    run_stage(Stage(), work)


def test_a_display_that_does_not_answer():
    async def work(stage):
        def broken(first, second):
            raise OSError(5)

        stage.screen.lines = broken
        await stage.settle()
        equal((stage.incidents(), stage.restarts), ([("keypad-failed", 1)], 0))
        stage.screen.lines = lambda first, second: stage.screen.shown.append((first, second))
        await stage.open()
        check(stage.agent.gate is None)

    run_stage(Stage(), work)


def test_the_trial_grant():
    class BootResult:
        granted = True
        open_slots = update = None

    from warden.ota import result as results

    unload("warden.ota.result")

    for granted in (True, False, None):
        BootResult.granted = granted

        async def work(stage, granted=granted):
            stage.open_session("authority")
            await stage.settle()
            heard = stage.received()
            if granted:
                equal(heard, [("gate", 0, {"open": True, "by": "grant"})])
            equal(stage.agent.gate is None, granted is True)
            equal(stage.vault.counter("otp_used"), 2)
            equal(stage.vault.counter("otp_good"), 0)  # it forgives nothing

        stage = Stage()
        stage.vault.advance("otp_used", 2)
        sys.modules["warden.ota.result"] = warden.ota.result = results
        results.boot_result = BootResult
        try:
            run_stage(stage, work)
        finally:
            results.boot_result = None
            unload("warden.ota.result")


def test_a_flash_that_fails_restarts_the_board():
    async def work(stage):
        stage.open_session("authority")
        req = await stage.request()
        stage.answer("server_otp_response", req)

        def broken(name, to=None):
            raise StoreError("vault-unwritten")

        stage.vault.advance = broken
        stage.keys.inject(b"123456#")
        await stage.settle()
        equal((stage.restarts, stage.received()), (1, []))
        check("agent-failed" in stage.codes())
        check(stage.agent.gate is not None)

    run_stage(Stage(), work)


def test_a_link_that_breaks_while_an_event_is_sent():
    async def work(stage):
        stage.open_session("authority")
        req = await stage.request()
        stage.answer("server_otp_response", req)

        def broken(topic, data):
            raise LinkError("link-closed")

        post, stage.client.post = stage.client.post, broken
        stage.keys.inject(b"123456#")
        await stage.settle()
        stage.client.post = post
        equal((stage.restarts, stage.codes().count("link-closed")), (0, 1))
        equal(stage.vault.counter("otp_used"), 1)
        await stage.later(31)
        equal(stage.screen.shown[-1], ("Code? 5 min", "No answer"))

    run_stage(Stage(), work)


# -- plain mode -------------------------------------------------------------------------------


def plain_events(stage):
    out = []
    for event, data in stage.client.posted:
        out.append((event, json.loads(data)))
    stage.client.posted = []
    return out


def send_plain(stage, command, **fields):
    fields["cmd"] = fields.get("cmd", command)
    stage.message(command, json.dumps(fields).encode(), "json")


def test_plain():
    async def work(stage):
        stage.agent.plain._uids["home"] = bytes([0x5A]) * 32
        stage.logged.clear()
        await stage.later(1)
        [(event, body)] = plain_events(stage)
        req = body.pop("req")
        equal((event, body), ("server_otp_request", {"event": event, "deviceId": "lamp-1"}))
        good = {"appid": "home", "uid": UID, "req": req, "time": TIME}
        send_plain(stage, "set_relay", appid="home", uid=UID, id=1, args={})
        for wrong in ({"uid": "00" * 32}, {"appid": "other"}, {"uid": None}):
            fields = dict(good)
            fields.update(wrong)
            send_plain(stage, "server_otp_response", validity=300, **fields)
        send_plain(stage, "server_otp_response", validity=300, cmd="set_relay", **good)
        send_plain(stage, "server_otp_response", validity=300, id=1, **good)
        equal(
            stage.incidents(),
            [("bad-body", 2), ("gate-shut", 1), ("wrong-application", 3)],
        )
        await stage.settle()
        equal([body["error"] for _, body in plain_events(stage)], ["gate-shut"])
        send_plain(stage, "server_otp_response", validity=300, **good)
        stage.keys.inject(b"123456#")
        await stage.settle()
        [(event, body)] = plain_events(stage)
        equal(
            body,
            {"event": event, "deviceId": "lamp-1", "req": req, "otp": "123456"},
        )
        equal(event, "device_otp_response")
        send_plain(stage, "server_otp_validate", isOTPValid="true", isTimeOut="false", **good)
        await stage.settle()
        [(event, body)] = plain_events(stage)
        equal((event, body["body"]), ("gate", {"open": True, "by": "otp"}))
        equal((stage.agent.gate, stage.incidents()), (None, []))
        # Afterwards it is no message that this device knows.
        send_plain(stage, "server_otp_validate", isOTPValid="true", isTimeOut="false", **good)
        equal(stage.incidents(), [("bad-body", 1)])

    run_stage(Stage(mode="plain"), work)


def test_plain_before_the_id_is_known():
    async def work(stage):
        await stage.later(5)
        equal([event for event, _ in plain_events(stage)], [])
        equal(stage.screen.shown[-1], ("Wait", "No connection"))

    run_stage(Stage(mode="plain"), work)
