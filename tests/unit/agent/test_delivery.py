"""Events in the outbox: sent, acknowledged, sent again, kept over a restart."""

import asyncio

from agent_kit import Rig, provisioned
from harness import check, equal, raises
from test_bundle import good
from time_model import ModelTime
from warden.agent.delivery import Delivery
from warden.errors import LinkError, StoreError, UsageError
from warden.policy.policy import Policy
from warden.vault import Vault, records
from warden.wire import cbor

TERMS = {"outbox": 4, "outbox_keep": "connection", "outbox_drop": "oldest"}
SAVE_MS, GAP_MS, PAUSE_MS = 10000, 300000, 5000


class Session:
    """A session that seals by writing down what it was given."""

    up, authority, sessions = True, False, 0

    def __init__(self, appid):
        self.appid = appid
        self.renew()

    def renew(self):
        Session.sessions += 1
        self.sid = b"%08d" % Session.sessions

    def seal_view(self, event, id, body, previous=None):
        return (self.appid, event, id, previous, cbor.decode(body))

    def drop(self):
        self.up = False


class Client:
    connected, owes = True, False

    def __init__(self):
        self.sent = []
        self.fails = False

    def post(self, topic, data):
        if self.fails:
            raise LinkError("link-closed")
        self.sent.append(data)

    async def flush(self):
        self.owes = False

    async def disconnect(self):
        self.connected = False


class Stage(Rig):
    """A device whose applications have sessions; time stands still until `now` is set."""

    def __init__(self, vault=None, apps=("home",), **terms):
        super().__init__(vault)
        self.now = 0
        agent = self.agent
        agent.now_ms = lambda: self.now
        agent.client = self.client = Client()
        agent.sessions = [Session(appid) for appid in apps]
        agent.session_up.set()
        self.device._parts = None
        self.terms = dict(TERMS)
        self.terms.update(terms)
        # Where every event ends: the agent checks a packet's size by its bytes.
        agent.post = lambda topic, data, qos=0: self.client.post(topic, data)
        found = records.load_apps(agent.vault)
        self.delivery = agent.delivery = Delivery(agent, found, self.terms)

    def publish(self, event="door", body=None, to=None, qos=0):
        return run(self.device.publish(event, body or {}, to, qos))

    def due(self):
        """Send what is due; return when the next time is."""
        return self.delivery._send(self.now)

    def sent(self):
        """Return (application, number, previous) of what was sent since the last call."""
        sent, self.client.sent = self.client.sent, []
        return [(appid, number, previous) for appid, _, number, previous, _ in sent]

    def waiting(self):
        return [entry.number for entry in self.delivery._outbox.entries()]


def run(work):
    """Run the coroutine on a clock that only waiting moves; one that waits for ever fails."""
    with ModelTime():
        return asyncio.run(asyncio.wait_for_ms(work, 60000))


def test_an_event_is_sent_and_kept_until_it_is_acknowledged():
    stage = Stage()
    equal(stage.publish("door", {"open": True}), "sent")
    equal(stage.client.sent, [("home", "door", 1, 0, {"open": True})])
    equal(stage.publish(), "sent")
    equal(stage.sent()[1:], [("home", 2, 1)])
    stage.delivery.on_ack("home", 1)
    equal(stage.waiting(), [2])
    stage.delivery.on_ack("garage", 2)
    stage.delivery.on_ack("home", 0)
    equal(stage.waiting(), [2])
    stage.delivery.on_ack("home", 2)
    equal((stage.waiting(), stage.due()), ([], None))
    equal(stage.publish(), "sent")
    equal(stage.sent(), [("home", 3, 0)])


def test_an_event_waits_for_a_session():
    stage = Stage()
    stage.agent.sessions[0].up = False
    stage.agent.session_up.clear()
    equal([stage.publish(), stage.publish()], ["queued", "queued"])
    equal((stage.sent(), stage.due()), ([], None))
    stage.agent.sessions[0].up = True
    equal(stage.due(), PAUSE_MS)
    equal(stage.sent(), [("home", 1, 0), ("home", 2, 1)])


def test_what_is_not_acknowledged_is_sent_again_in_each_session():
    stage = Stage()
    for _ in range(3):
        stage.publish()
    stage.delivery.on_ack("home", 1)
    stage.sent()
    stage.due()
    equal(stage.sent(), [])
    stage.agent.sessions[0].renew()
    stage.due()
    equal(stage.sent(), [("home", 2, 0), ("home", 3, 2)])


def test_and_after_a_pause_that_doubles():
    stage = Stage()
    stage.publish()
    pauses = []
    for _ in range(6):
        stage.sent()
        due = stage.due()
        pauses.append(due - stage.now)
        stage.now = due - 1
        stage.due()
        equal(stage.sent(), [])
        stage.now = due
        stage.due()
        equal(stage.sent(), [("home", 1, 0)])
    equal(pauses, [5000, 10000, 20000, 40000, 60000, 60000])
    # An acknowledgement ends the doubling.
    stage.publish()
    stage.delivery.on_ack("home", 1)
    equal(stage.due() - stage.now, PAUSE_MS)


def test_no_more_are_in_flight_than_the_window():
    stage = Stage(outbox=64)
    for _ in range(20):
        stage.publish()
    equal(len(stage.sent()), 16)
    stage.delivery.on_ack("home", 3)
    stage.due()
    equal([number for _, number, _ in stage.sent()], [17, 18, 19])


def test_a_connection_that_owes_bytes_is_left_alone():
    stage = Stage()
    stage.client.owes = True
    stage.delivery._send(0)
    equal(stage.publish(), "queued")
    equal((stage.sent(), stage.client.owes), ([], False))
    stage.due()
    equal(stage.sent(), [("home", 1, 0)])


def test_a_connection_that_breaks_loses_nothing():
    stage = Stage()
    stage.client.fails = True
    equal(stage.publish(), "queued")
    equal(stage.codes(), ["link-closed"])
    stage.client.fails = False
    stage.due()
    equal(stage.sent(), [("home", 1, 0)])


def test_what_became_of_an_event():
    async def work(stage, then):
        task = asyncio.create_task(stage.device.publish("door", {}, qos=1))
        await asyncio.sleep_ms(0)
        await asyncio.sleep_ms(0)
        await then(stage)
        return await task

    async def acknowledge(stage):
        stage.delivery.on_ack("home", 1)

    async def displace(stage):
        for _ in range(4):
            equal(await stage.device.publish("door", {}), "sent")

    equal(run(work(Stage(), acknowledge)), "delivered")
    stage = Stage()
    equal(run(work(stage, displace)), "dropped")
    equal(stage.incidents(), [{"code": "outbox-full", "n": 1, "at": "outbox"}])
    stage = Stage(outbox=1, outbox_drop="newest")
    equal([stage.publish(), stage.publish(), stage.publish(qos=1)], ["sent", "dropped", "dropped"])
    equal(stage.incidents(), [{"code": "outbox-full", "n": 2, "at": "outbox"}])
    equal(stage.delivery._fates, {})


def test_an_event_stays_when_its_publisher_gives_up():
    stage = Stage()
    raises("link-timeout", run, stage.device.publish("door", {}, qos=1, timeout=0.02))
    equal((stage.waiting(), stage.delivery._fates), ([1], {}))


def test_each_application_acknowledges_for_itself():
    vault = two_apps()
    stage = Stage(vault, ("garage", "home"))
    stage.publish()
    equal(sorted(stage.sent()), [("garage", 1, 0), ("home", 1, 0)])
    stage.publish(to="garage")
    stage.publish()
    equal(sorted(stage.sent()), [("garage", 2, 1), ("garage", 3, 2), ("home", 3, 1)])
    stage.delivery.on_ack("home", 3)
    equal(stage.waiting(), [1, 2, 3])
    stage.delivery.on_ack("garage", 3)
    equal(stage.waiting(), [])
    # The authority gets what is meant for it alone.
    stage.agent.sessions.append(Session("authority"))
    stage.publish()
    stage.publish(to="authority")
    equal([sent for sent in stage.sent() if sent[0] == "authority"], [("authority", 5, 0)])
    raises("bad-argument", stage.publish, "door", {}, "stranger")


def two_apps():
    bundle = good()
    bundle["apps"].append(["garage", bytes(range(32)), False, []])
    return provisioned(bundle)


def test_a_shut_gate_lets_nothing_out():
    class Gate:
        early = False
        opened = asyncio.Event()

    stage = Stage()
    stage.publish()
    stage.sent()
    stage.agent.gate = Gate()
    stage.agent.sessions[0].renew()
    equal((stage.due(), stage.sent()), (None, []))
    Gate.early = True
    stage.due()
    equal(stage.sent(), [("home", 1, 0)])


def test_an_event_that_no_message_carries():
    stage = Stage()
    limit = stage.agent.policy.max_message
    for body in ({"x": bytes(limit - 100)}, {"x": float("nan")}, {"x": [0] * 2001}):
        check(isinstance(raises("bad-argument", stage.publish, "door", body), UsageError))
    equal((stage.waiting(), stage.agent.vault.counter("outbox")), ([], 0))
    equal(stage.publish("door", {"x": bytes(limit - 150)}), "sent")


def test_a_larger_limit_that_is_only_tried_lets_no_larger_event_in():
    stage = Stage()
    limit = stage.agent.policy.max_message
    larger = cbor.decode(good()["policy"])
    larger["max_message"] = 2 * limit
    stage.agent.policy = Policy(cbor.encode(larger))
    raises("bad-argument", stage.publish, "door", {"x": bytes(limit - 100)})
    equal(stage.waiting(), [])


# -- numbers and saved events ---------------------------------------------------------------------


def restarted(stage, apps=("home",)):
    """The device after a power cut: what its flash kept is all that is left."""
    vault = Vault(stage.agent.vault.store, stage.agent.vault._root)
    vault.open()
    return Stage(vault, apps, **stage.terms)


def test_numbers_are_reserved_before_they_are_used():
    stage = Stage()
    equal(stage.agent.vault.counter("outbox"), 0)
    generation = stage.agent.vault.generation
    for _ in range(50):
        stage.publish()
    equal(
        (stage.agent.vault.counter("outbox"), stage.agent.vault.generation), (4096, generation + 1)
    )
    again = restarted(stage)
    again.publish()
    equal([number for _, number, _ in again.sent()], [4097])
    again.delivery._number = 8192
    again.publish()
    equal((again.sent()[0][1], again.agent.vault.counter("outbox")), (8193, 12288))


def test_events_are_kept_over_a_restart():
    stage = Stage(outbox_keep="reboot")
    stage.agent.sessions[0].up = False
    stage.now = 1000
    for value in range(3):
        stage.publish("door", {"n": value})
    equal(stage.delivery._save_due(), 1000 + SAVE_MS)
    stage.delivery.save()
    again = restarted(stage)
    again.publish("door", {"n": 9})
    sent = [(number, previous, body["n"]) for _, _, number, previous, body in again.client.sent]
    equal(sent, [(1, 0, 0), (2, 1, 1), (3, 2, 2), (4097, 3, 9)])


def test_without_the_policy_s_word_nothing_is_saved():
    stage = Stage()
    generation = stage.agent.vault.generation
    stage.publish()
    equal(stage.delivery._save_due(), None)
    stage.delivery.save_at_end()
    equal(stage.agent.vault.generation, generation + 1)  # of the numbers
    equal(restarted(stage).waiting(), [])


def test_the_flash_is_written_seldom():
    """Never while the line is up, else each five minutes at most."""
    stage = Stage(outbox_keep="reboot", outbox=64)
    vault = stage.agent.vault
    stage.publish()
    generation = vault.generation
    for _ in range(1000):
        stage.now += 100
        stage.publish()
        stage.delivery.on_ack("home", stage.delivery._number)
        stage.sent()
        check(stage.delivery._save_due() is None)
    stage.agent.sessions[0].up = False
    for _ in range(2 * GAP_MS // 1000):
        stage.now += 1000
        stage.publish()
        due = stage.delivery._save_due()
        if due is not None and stage.now >= due:
            stage.delivery.save()
    equal(vault.generation, generation + 2)
    # What is saved and delivered is removed, as seldom.
    stage.delivery.on_ack("home", stage.delivery._number)
    due = stage.delivery._save_due()
    check(due >= stage.now)
    stage.now = due
    stage.delivery.save()
    equal([name for name in vault.names() if name.startswith("outbox")], [])
    check(stage.delivery._save_due() is None)
    equal(vault.generation, generation + 3)


def test_a_large_outbox_is_saved_in_pieces():
    stage = Stage(outbox=64, outbox_keep="reboot")
    stage.agent.sessions[0].up = False
    for value in range(64):
        stage.publish("door", {"v": bytes((value,)) * 100})
    stage.delivery.save()
    equal(
        sorted([name for name in stage.agent.vault.names() if name.startswith("outbox")]),
        ["outbox0", "outbox1"],
    )
    again = restarted(stage)
    equal(again.waiting(), stage.waiting())
    again.delivery.on_ack("home", 40)
    again.delivery._unsaved_ms = 0
    again.delivery.save()
    check("outbox1" not in again.agent.vault.names())
    equal(restarted(again).waiting(), again.waiting())


def test_a_planned_end_saves():
    for end in ("stop", "restart"):
        stage = Stage(outbox_keep="reboot")
        stage.agent.sessions[0].up = False
        stage.publish()
        if end == "stop":
            run(stage.device.stop())
        else:
            stage.agent.restart()
        equal(restarted(stage).waiting(), [1])
    # A vault that is closed, as after a wipe, is no reason not to restart.
    stage.agent.vault.close()
    stage.delivery._unsaved_ms = 0
    stage.agent.restart()
    equal((stage.restarts, stage.codes()[-1]), (2, "closed"))


def test_a_full_flash_costs_no_event():
    stage = Stage(outbox_keep="reboot")
    stage.publish()

    def commit(changes, counters=None):
        raise StoreError("vault-limit")

    stage.agent.vault.commit = commit
    stage.delivery.save()
    equal((stage.codes(), stage.waiting()), (["vault-limit"], [1]))
    stage.publish()
    equal(stage.delivery._save_due(), GAP_MS)


def test_saved_events_of_no_known_form_are_left_out():
    stage = Stage(outbox_keep="reboot")
    stage.agent.vault.put("outbox0", b"another form")
    again = restarted(stage)
    equal((again.waiting(), again.codes()), ([], ["vault-damaged"]))
    again.publish()
    equal(again.waiting(), [1])


# -- plain mode -----------------------------------------------------------------------------------


class Plain:
    ready = True
    appids = ["home"]

    def event(self, event, fields):
        return b"%s %d %d" % (event.encode(), fields["n"], fields["body"].get("v", 0))


def test_plain_mode_waits_for_the_broker():
    stage = Stage()
    stage.agent.plain = Plain()
    stage.agent.sessions = []
    answers = [True, False, True, True]
    sent = []

    async def post(data):
        sent.append(data)
        if not answers.pop(0):
            raise LinkError("link-closed")

    stage.agent.post = lambda topic, data, qos=0: post(data)
    equal([stage.publish("door", {"v": v}) for v in (7, 8, 9)], ["queued"] * 3)
    raises("link-closed", run, stage.delivery._send_plain())
    equal((sent, stage.waiting()), ([b"door 1 7", b"door 2 8"], [2, 3]))
    run(stage.delivery._send_plain())
    equal((sent[2:], stage.waiting()), ([b"door 2 8", b"door 3 9"], []))


# -- the task -------------------------------------------------------------------------------------


def test_the_task_sends_what_waits():
    stage = Stage()
    stage.agent.sessions[0].up = False
    stage.publish()

    async def work():
        task = asyncio.create_task(stage.delivery.run())
        await asyncio.sleep_ms(0)
        await asyncio.sleep_ms(0)
        equal(stage.sent(), [])
        stage.agent.sessions[0].up = True
        stage.delivery.changed.set()
        while not stage.client.sent:
            await asyncio.sleep_ms(1)
        task.cancel()

    run(work())
    equal(stage.sent(), [("home", 1, 0)])
