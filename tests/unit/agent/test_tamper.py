"""What somebody does at the device itself: reported, locked or wiped, as the policy says."""

import asyncio

from agent_kit import Rig, provisioned
from board_model import DictStore, RootKey
from harness import check, equal, raises
from test_bundle import good
from warden.agent import build
from warden.errors import StoreError
from warden.rotation import commands
from warden.vault import Vault
from warden.wire import cbor

TERMS = {"writes": 24, "junk": "ignore", "apps": "lock", "codes": "lock", "tamper": "ignore"}


class Session:
    up, authority, appid, sid = True, True, "authority", b"00000001"

    def __init__(self):
        self.sealed = []

    def seal(self, event, id, body):
        self.sealed.append((event, body))
        return b"sealed"

    def drop(self):
        self.up = False


class Client:
    connected, owes = True, False

    def post(self, topic, data):
        pass

    async def disconnect(self, will=True):
        self.connected = False


class Stage(Rig):
    def __init__(self, vault=None, tamper="ignore"):
        super().__init__(vault)
        self.start_without_tasks()
        terms = dict(TERMS)
        terms["tamper"] = tamper
        self.agent.policy.incidents = terms
        self.agent.sessions[:] = [Session()]
        self.agent.client = Client()

    def tamper(self, at="case"):
        asyncio.run(self.device.tampered(at))


def test_it_is_reported():
    for terms in (None, TERMS):
        stage = Stage()
        stage.agent.policy.incidents = terms
        stage.tamper()
        equal(stage.incidents(), [{"code": "tamper-detected", "n": 1, "at": "case"}])
        check(not stage.agent.inbox.locked)
        raises("bad-name", stage.tamper, "The Case")


def test_it_locks_over_restarts_until_the_operator_unlocks():
    stage = Stage(tamper="lock")
    for _ in range(2):
        generation = stage.agent.vault.generation
        stage.tamper()
        check(stage.agent.inbox.locked)
    equal(stage.agent.vault.generation, generation)  # the second time costs no write
    again = Stage(stage.agent.vault)
    check(again.agent.inbox.locked)
    check("locked" in again.codes())
    body = {"device": again.agent.names.device}
    equal(commands.run(again.agent, "unlock", body), {"unlocked": True})
    check(not again.agent.inbox.locked)
    check(not Stage(again.agent.vault).agent.inbox.locked)
    # Of an open device it is no incident.
    again.incidents()
    raises("gate-open", commands.run, again.agent, "unlock", body)
    equal(again.incidents(), [])
    raises("bad-body", commands.run, again.agent, "unlock", {})
    equal([row["code"] for row in again.incidents()], ["bad-body"])


def test_it_wipes_first_and_tells_then():
    store = DictStore()
    stage = Stage(provisioned(good(), store), "wipe")
    session = stage.agent.sessions[0]
    whole, seen = stage.agent.send, []

    async def send(event, body, wrap=True):
        seen.append(sorted(store.names()))
        return await whole(event, body, wrap)

    stage.agent.send = send
    try:
        stage.tamper("lid")
        check(False)
    except StoreError as error:
        equal(error.code, "wiped")
    equal(seen, [[]])
    equal(session.sealed, [("incident", {"code": "wiped", "n": 1, "at": "lid"})])
    equal((stage.restarts, session.up, stage.agent.client.connected), (1, False, False))
    raises("not-provisioned", Vault(store, RootKey()).open)


def test_it_wipes_without_a_session_or_a_working_link():
    for break_it in (
        lambda stage: stage.agent.sessions.clear(),
        lambda stage: setattr(stage.agent.client, "post", lambda *_: 1 // 0),
    ):
        store = DictStore()
        stage = Stage(provisioned(good(), store), "wipe")
        break_it(stage)
        try:
            stage.tamper()
        except (StoreError, ZeroDivisionError):
            pass
        raises("not-provisioned", Vault(store, RootKey()).open)


def test_wrong_codes_wipe_where_the_device_verifies_them():
    from gate_kit import TERMS as GATE_TERMS
    from warden.gate.gate import Gate

    called = []

    async def tampered(agent, reaction, at):
        called.append((reaction, at))

    for source, codes, failures, wiped in (
        ("hotp", "wipe", 5, True),
        ("hotp", "wipe", 4, False),
        ("hotp", "lock", 5, False),
        ("authority", "wipe", 50, False),
    ):
        stage = Stage()
        stage.agent.policy.incidents = dict(TERMS)
        stage.agent.policy.incidents.update(codes=codes, wipe_after=5)
        stage.agent.policy.otp = dict(GATE_TERMS)
        stage.agent.policy.otp.update(source=source)
        vault = stage.agent.vault
        vault.put("otp", cbor.encode([bytes(20), 6, 0, None]))
        vault.advance("otp_used", failures)
        stage.agent.tampered = tampered
        del called[:]
        gate = Gate(stage.agent, (None, None, False))
        asyncio.run(gate._work())
        equal(called, [("wipe", "codes")] if wiped else [])


def test_nobody_is_ignored_for_a_name_that_nothing_proves():
    """Plain mode without the application's ID: anyone may use any name."""
    stage = Stage()
    policy, inbox = stage.agent.policy, stage.agent.inbox
    policy.incidents = {"lock_s": 60, "junk": "ignore", "apps": "lock"}
    for mode, validate, lock_ms in (
        ("sealed", True, 60000),
        ("plain", True, 60000),
        ("plain", False, 0),
    ):
        policy.mode, policy.validate = mode, validate
        build._react(inbox, policy)
        equal(inbox.lock_ms, lock_ms)
