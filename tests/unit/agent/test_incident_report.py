"""The incident log: written within its budget, sent, acknowledged, and complete by its chain."""

import asyncio
import hashlib

from agent_kit import NOW, Rig, provisioned
from board_model import PowerCut, RootKey
from harness import check, equal
from media_kit import Flash, Memory, NvsPlace
from test_bundle import good
from warden.agent import incident_report
from warden.errors import LinkError, StoreError
from warden.session.incident_log import IncidentLog
from warden.vault import Vault
from warden.wire import cbor

DAY_MS = 86400000


class Session:
    """A session with the authority that seals by writing down what it was given."""

    up, authority, appid = True, True, "authority"
    sid = b"00000001"

    def seal(self, event, id, body):
        equal((event, id), ("incident", 0))
        return body

    def drop(self):
        self.up = False


class Client:
    connected, owes, accepted = True, False, True
    fails = False

    def __init__(self):
        self.sent = []


class Chain:
    """The authority's side, by docs/protocol.md: takes each record once, by its hash."""

    def __init__(self, names):
        self.last = 0
        start = cbor.encode(["warden incidents 1", names.type, names.device])
        self.head = hashlib.sha256(start).digest()[:16]
        self.got, self.missing, self.seen = [], 0, {}

    def receive(self, body):
        no, digest = body["no"], body["hash"]
        equal(self.seen.setdefault(no, digest), digest, "number %d is of two records" % no)
        if no <= self.last:
            return
        if body["old"] > self.last + 1:
            self.missing += body["old"] - self.last - 1
            equal(no, body["old"])
        elif no > self.last + 1:
            return  # one before it got lost on its way
        else:
            at = [no] + [body[key] for key in ("t", "code", "at")]
            record = cbor.encode(at + [body.get("from", ""), body["n"], body["told"]])
            wanted = hashlib.sha256(self.head + record).digest()[:16]
            equal(digest, "".join(["%02x" % one for one in wanted]))
        self.last, self.head = no, bytes([int(digest[i : i + 2], 16) for i in range(0, 32, 2)])
        self.got.append((body["code"], body["at"], body["n"]))


class Stage(Rig):
    """A device that is online, or not; time stands still until `now` is set."""

    def __init__(self, vault=None, terms=None, chain=None, now=0):
        super().__init__(vault)
        self.now = now
        agent = self.agent
        agent.now_ms = lambda: self.now
        agent.policy.incidents = terms
        agent.client = self.client = Client()
        agent.incidents.kept = "incidents" in agent.vault.names()
        agent.sessions = [Session()]
        agent.post = self._post
        self.chain = chain or Chain(agent.names)

    def _post(self, topic, data, qos=0):
        if self.client.fails:
            raise LinkError("link-closed")
        self.client.sent.append(data)

    def run(self, after_ms=1000):
        """Let the time pass and what is due happen; return the bodies that were sent."""
        self.now += after_ms
        asyncio.run(self.agent._report_incidents(self.now))
        sent, self.client.sent = self.client.sent, []
        return sent

    def deliver(self, sent, acknowledge=True):
        """Give the authority what was sent, and the device its answer."""
        for body in sent:
            if "no" in body:
                self.chain.receive(body)
        if acknowledge:
            self.agent.incidents.acknowledge(self.chain.last, self.now)
        return sent

    def add(self, code="tampered", at="blink", n=1, source=""):
        self.agent.report(code, at, n, source)

    @property
    def log(self):
        names = self.agent.names
        return IncidentLog(names.type, names.device, self.agent.vault.get("incidents"))


def terms(**changes):
    found = {"writes": 24, "lock_s": 60, "wipe_after": 100}
    found.update(junk="ignore", apps="lock", codes="lock", tamper="ignore")
    found.update(changes)
    return found


def test_a_record_is_on_the_flash_before_it_is_sent_and_goes_once_acknowledged():
    stage = Stage()
    stage.add(source="acme")
    stage.add(n=2, source="acme")
    generation = stage.agent.vault.generation
    stage.client.fails = True
    equal(stage.run(), [])
    record = [NOW - 1, "tampered", "blink", "acme", 3, 0]
    equal((stage.log.records, stage.agent.vault.generation), ([record], generation + 1))
    equal(stage.codes()[-1], "link-closed")
    stage.client.fails = False
    stage.agent.sessions[0].sid = b"00000002"
    stage.agent.incidents.wake(stage.now)
    equal(stage.run(0), [])  # the authority may know it: it says so at once
    (body,) = stage.run(2000)
    equal(
        sorted(body.items())[:-2],
        sorted({"at": "blink", "code": "tampered", "from": "acme", "hash": body["hash"]}.items())
        + [("n", 3), ("no", 1), ("old", 1)],
    )
    equal((body["t"], body["told"]), (NOW - 1, 0))
    stage.deliver([body])
    equal((stage.agent.incidents.kept, stage.agent.incidents.due), (False, None))
    stage.add("replayed")
    (body,) = stage.deliver(stage.run())
    equal((body["no"], body["old"]), (2, 2))
    equal(stage.chain.got, [("tampered", "blink", 3), ("replayed", "blink", 1)])
    # An acknowledged record costs no write of its own: it goes with the next one.
    equal([record[1] for record in stage.log.records], ["replayed"])


def test_a_restart_goes_on_and_sends_nothing_twice_that_the_authority_says_it_has():
    stage = Stage()
    stage.add()
    stage.deliver(stage.run())
    again = Stage(stage.agent.vault, chain=stage.chain)
    again.agent.incidents.wake(0)
    equal(again.run(0), [])
    again.agent.incidents.acknowledge(1, 0)
    equal((again.run(2000), again.agent.incidents.due), ([], None))
    # Also where it says so before the log was read: a sleep may keep the session then.
    third = Stage(stage.agent.vault, chain=stage.chain)
    third.agent.incidents.acknowledge(1, 0)
    equal((third.run(), third.agent.incidents.kept), ([], False))
    again.add("replayed")
    equal([body["no"] for body in again.deliver(again.run())], [2])
    equal(again.chain.got, [("tampered", "blink", 1), ("replayed", "blink", 1)])


def test_what_gets_lost_is_sent_again():
    stage = Stage()
    stage.deliver([], True)
    for i in range(3):
        stage.add("code-%d" % i)
        sent = stage.run()
        stage.deliver([] if i == 1 else sent, i == 0)
    equal(stage.run(29000), [])
    again = stage.run(1000)
    equal([body["no"] for body in again], [2, 3])
    stage.deliver(again)
    equal(len(stage.chain.got), 3)


def test_an_authority_that_acknowledges_nothing_gets_all_three_times():
    stage = Stage()
    stage.add()
    equal(len(stage.run()), 1)
    for session in range(2, 6):
        stage.agent.sessions[0].sid = b"%08d" % session
        stage.agent.incidents.wake(stage.now)
        equal(stage.run(0), [])
        equal(len(stage.run(2000)), 1 if session < 4 else 0)
        equal(stage.run(DAY_MS), [])


def test_a_flood_costs_the_budget_and_is_reported_at_once():
    """No attacker can make a device write more than the policy's budget a day."""
    for writes in (1, 4, 24):
        stage = Stage(terms=terms(writes=writes))
        generation, told, numbered = stage.agent.vault.generation, 0, 0
        for _ in range(2 * 24):
            for i in range(5):
                stage.add("code-%d" % i, "x%d" % (i % 3), 200)
            for body in stage.deliver(stage.run(DAY_MS // 24)):
                if "no" in body:
                    numbered += body["n"] - body["told"]
                else:
                    told += body["n"]
            # At once, and nothing twice.
            equal(told + numbered, 1000 * (stage.now // (DAY_MS // 24)))
        days = stage.now // DAY_MS
        written = stage.agent.vault.generation - generation
        check(written <= writes * days, "%d writes in %d days" % (written, days))
        check(written >= writes * days // 2)
        equal(stage.chain.missing, 0)


def test_restarts_give_no_writes_away():
    """Each start allows one: it takes a write in any case."""
    stage = Stage(terms=terms(writes=8))
    for start in range(12):
        generation = stage.agent.vault.generation
        for i in range(5):
            stage.add("code-%d" % i)
            stage.run()
        written = stage.agent.vault.generation - generation
        equal(written, (2, 1)[start > 0])
        stage.agent.vault.advance("boot")
        stage = Stage(stage.agent.vault, terms(writes=8))
    # The same boot goes on, out of deep sleep: none at all.
    stage.add()
    stage.run()
    again = Stage(stage.agent.vault, terms(writes=8))
    generation = again.agent.vault.generation
    again.add()
    again.run()
    equal(again.agent.vault.generation, generation)
    # Proven time brings them back.
    again.agent.clock._mark = NOW + 86400 * 9
    last = Stage(again.agent.vault, terms(writes=8))
    last.agent.clock._mark = NOW + 86400 * 9
    last.add()
    last.run()
    check(last.agent.vault.generation > generation)


def test_no_flash_at_all():
    stage = Stage(terms=terms(writes=0))
    stage.add(n=3)
    equal(stage.run(), [{"code": "tampered", "n": 3, "at": "blink"}])
    stage.add(n=2)
    equal(stage.run(), [])
    equal(stage.run(9000), [{"code": "tampered", "n": 2, "at": "blink"}])
    check("incidents" not in stage.agent.vault.names())
    # What was reported leaves its room to other kinds.
    for i in range(40):
        stage.add("code-%d" % i)
        equal([body["code"] for body in stage.run(10000)], ["code-%d" % i])
    stage.run(10000)
    equal(stage.agent.incidents.rows, {})


def test_a_flood_of_a_device_is_none_of_the_authority():
    stage = Stage(terms=terms(writes=0))
    sent = 0
    for _ in range(100):
        for i in range(40):
            stage.add("code-%d" % (i % 20), "x%d" % i)
        sent += len(stage.run())
    check(32 <= sent <= 32 * 11, "%d messages in 100 s" % sent)


def test_a_session_that_ends_meanwhile_loses_no_report():
    for writes in (0, 24):
        stage = Stage(terms=terms(writes=writes))
        session = stage.agent.sessions[0]
        seal = session.seal

        def last(event, id, body, session=session, seal=seal):
            session.up = False
            return seal(event, id, body)

        session.seal = last
        stage.add("tampered")
        stage.add("duress", "gate")
        sent = stage.run()
        equal(len(sent), 1)
        session.seal, session.up = seal, True
        stage.agent.incidents.wake(stage.now)
        stage.agent.incidents.acknowledge(0, stage.now)
        sent += stage.run(0)
        equal(sorted([body["code"] for body in sent]), ["duress", "tampered"])
        check(("duress", "gate", "") not in stage.agent.incidents.rows)


def test_a_full_log_counts_what_it_drops():
    stage = Stage(terms=terms(writes=1000))
    stage.agent.sessions[0].up = False
    for i in range(44):
        stage.add("code-%d" % i)
        stage.run()
    log = stage.log
    check(len(log.records) <= 32)
    check(len(stage.agent.vault.get("incidents")) <= 2048)
    dropped = sum([record[4] for record in log.records if record[1] == "incident-dropped"])
    kept = [record[1] for record in log.records if record[1] != "incident-dropped"]
    equal(dropped + len(kept), 44)
    equal(kept[-1], "code-43")
    stage.agent.sessions[0].up = True
    stage.agent.incidents.wake(stage.now)
    stage.run(0)
    stage.deliver(stage.run(2000))
    equal(stage.chain.missing, log.first - 1)
    equal([one[0] for one in stage.chain.got], [record[1] for record in log.records])


def test_large_records_stay_within_the_bound():
    stage = Stage(terms=terms(writes=1000))
    stage.agent.sessions[0].up = False
    for i in range(24):
        stage.add("c" * 30 + "%02d" % i, "p" * 32, 1 << 31, "a" * 32)
        stage.run()
        check(len(stage.agent.vault.get("incidents")) <= 2048)
    check(5 < len(stage.log.records) < 32)


def test_a_broken_link_alone_is_not_worth_a_write():
    stage = Stage()
    stage.agent.sessions[0].up = False
    stage.add("unreachable", "link")
    equal((stage.run(), stage.agent.incidents.due), ([], None))
    check("incidents" not in stage.agent.vault.names())
    stage.add("tampered")
    stage.run()
    equal(len(stage.log.records), 2)


def test_duress_leaves_no_trace_on_the_flash():
    """Whoever forces the owner sees the writes of the right code."""
    stage = Stage()
    generation = stage.agent.vault.generation
    stage.agent.sessions[0].up = False
    stage.add("duress", "gate")
    equal(stage.run(), [])
    stage.agent.restart()
    equal(stage.agent.vault.generation, generation)
    stage.add("tampered")
    stage.run()
    equal([record[1] for record in stage.log.records], ["tampered"])
    stage.agent.sessions[0].up = True
    stage.agent.incidents.wake(stage.now)
    check({"code": "duress", "n": 1, "at": "gate"} in stage.run(0))
    equal(stage.agent.incidents.rows, {})


def test_what_waits_is_kept_at_the_end():
    stage = Stage()
    stage.add()
    stage.agent.restart()
    equal(([record[1] for record in stage.log.records], stage.restarts), (["tampered"], 1))
    # A wiped or closed vault is no reason not to restart.
    stage.add()
    stage.agent.vault.close()
    stage.agent.restart()
    equal(stage.restarts, 2)


def test_a_log_of_another_version_stays_and_is_reported():
    for data in (cbor.encode([2, 1, b"", [], None]), b"\xff", cbor.encode(7)):
        stage = Stage()
        stage.agent.vault.put("incidents", data)
        stage.add()
        codes = [body["code"] for body in stage.run() + stage.run()]
        equal(sorted(codes), ["tampered", "vault-damaged"])
        equal(stage.agent.vault.get("incidents"), data)


def test_no_room_on_the_flash():
    stage = Stage()
    put = stage.agent.vault.put

    def full(name, value):
        raise StoreError("vault-limit")

    stage.agent.vault.put = full
    stage.add(n=2)
    equal(stage.run(), [{"code": "tampered", "n": 2, "at": "blink"}])
    stage.agent.vault.put = put
    (body,) = stage.run(2 * DAY_MS)
    equal((body["no"], body["n"], body["told"]), (1, 2, 2))


def test_little_memory_postpones_a_write():
    stage = Stage()
    heap = incident_report._heap
    incident_report._heap = lambda: 9999
    try:
        stage.add()
        asyncio.run(incident_report.run(stage.agent, 1000))
        equal(stage.client.sent, [{"code": "tampered", "n": 1, "at": "blink"}])
        check("incidents" not in stage.agent.vault.names())
    finally:
        incident_report._heap = heap


def test_a_number_of_another_log_is_not_believed():
    """The flash was played back: the authority has more, and is shown what differs."""
    stage = Stage()
    stage.agent.incidents.acknowledge(57, 0)
    stage.add()
    equal([body["no"] for body in stage.run()], [1])
    stage.agent.incidents.acknowledge(57, stage.now)
    equal(stage.agent.incidents.acked, 0)


def _cut(place, budget):
    """Log three times, with the power cut; return (operations, records that a run() finished)."""
    finished = []
    try:
        vault = Vault(place.store(), RootKey())
        vault.open()
        if place.part is not None:
            place.part.operations, place.part.budget = 0, budget
        stage = Stage(vault, terms(writes=1000))
        for code in ("first", "second", "third"):
            stage.add(code, "x", 1, "a" * 20)
            before = len(stage.client.sent)
            stage.run()
            equal(before, 0)
            finished.append(code)
        return place.part.operations if place.part else 0, finished
    except (PowerCut, StoreError, OSError):
        return None, finished


def test_a_power_cut_leaves_the_log_before_or_after():
    """At each operation of the raw flash and of NVS; files on littlefs: tests/faults."""
    for kind in (Flash, NvsPlace, Memory):
        place = kind()
        store = place.store()
        provisioned(good(), store)
        if place.part is None:
            _cut(place, None)
            place.close()
            continue
        image = place.image()
        total, _ = _cut(place, None)
        check(total > 6)
        for budget in range(total):
            place.load(image)
            _, finished = _cut(place, budget)
            vault = Vault(place.store(), RootKey())
            vault.open()
            stage = Stage(vault, terms(writes=1000))
            codes = [record[1] for record in stage.log.records]
            equal(codes[: len(finished)], finished)
            check(codes in ([], ["first"], ["first", "second"], ["first", "second", "third"]))
            # And it goes on.
            stage.agent.incidents.acknowledge(0, 0)
            stage.add("fourth")
            stage.deliver(stage.run())
            equal([one[0] for one in stage.chain.got], codes + ["fourth"])
        place.close()


def test_a_day_of_flood_wears_the_flash_little():
    """Bytes and erases of a whole budget of the largest writes, on the raw flash of a board."""
    place = Flash(256, 16, 4096)
    vault = provisioned(good(), place.store())
    before = sum(place.part.erases)
    stage = Stage(vault)
    stage.agent.sessions[0].up = False
    for _ in range(24 * 3):
        for i in range(20):
            stage.add("code-with-a-long-name-%d" % i, "p" * 32, 5, "a" * 32)
        stage.run(20 * 60000)
    check(len(stage.log.records) > 5)
    erases = sum(place.part.erases) - before
    check(erases <= 32, "%d erases of 4 KB" % erases)
    print("a day of flood:", erases, "erases of 4 KB,", max(place.part.erases), "of one sector")
