"""A device that wakes up from deep sleep: what goes on, and what begins anew."""

import asyncio

from agent_kit import NOW, Rig, provisioned
from harness import check, equal
from test_bundle import good
from warden.agent.delivery import Delivery
from warden.agent.leaving import leave
from warden.errors import StoreError
from warden.ota import result as results
from warden.session import resume
from warden.session.resume import ResumableSession
from warden.vault import Vault, records
from warden.wire import cbor

SALT, DIGEST = bytes(range(64)), bytes(32)


class Memory:
    """As hal/retained.py."""

    data = b""

    def read(self):
        return self.data

    def write(self, data):
        self.data = data
        return True


class Asleep:
    """A session before the sleep."""

    def __init__(self, number):
        self.counter = self
        self.boot, self.connect = number, 7

    def suspend(self, now_ms):
        return ["home", SALT, 5, 3, DIGEST, 1000]


class Trial:
    trial = True
    update = open_slots = None


def woken(pending="", trial=False):
    """Return (a device that was started after a sleep, the vault's generation before it)."""
    vault = provisioned()
    number = vault.advance("boot")
    if pending:
        record = records.load_raw(vault, "policy")
        vault.commit({pending: cbor.encode([1, 1, record, 3])}, {"policy": 1})
    memory = Memory()
    check(resume.save(vault, memory, [Asleep(number)], None, 0, NOW))
    generation = vault.generation
    kept = results.boot_result
    results.boot_result = Trial() if trial else None
    try:
        rig = Rig(vault)
        apps, panel, _ = rig.device._parts
        rig.device._parts = apps, panel, memory
        rig.start_without_tasks()
    finally:
        results.boot_result = kept
    equal(memory.data, b"")
    return rig, generation


def test_the_session_goes_on_without_a_write_to_the_flash():
    rig, generation = woken()
    (session,) = [each for each in rig.agent.sessions if each.appid == "home"]
    session.start(0)
    check(session.up)
    equal((session.counter.connect, rig.agent.vault.generation), (7, generation))


def test_what_waits_for_a_proof_gets_a_new_session():
    """A resumed session is up before the authority said a word."""
    for rig, generation in (woken("policy_new"), woken(trial=True)):
        for session in rig.agent.sessions:
            session.start(0)
            check(not session.up)
        equal((rig.agent.sessions[0].counter.connect, rig.agent.vault.generation), (7, generation))


def test_each_change_that_waits_for_a_proof_ends_the_session():
    for pending in ("", "rotation", "network_new", "policy_new", "token_new"):
        vault = provisioned()
        number = vault.advance("boot")
        if pending:
            vault.commit({pending: cbor.encode([1])})
        memory = Memory()
        check(resume.save(vault, memory, [Asleep(number)], None, 0, NOW))
        saved = resume.load(vault, memory, NOW)
        equal((pending, len(saved.sessions)), (pending, 0 if pending else 1))


# -- the outbox -----------------------------------------------------------------------------------

TERMS = {"outbox": 4, "outbox_keep": "reboot", "outbox_drop": "oldest"}


class Client:
    connected = owes = False

    async def disconnect(self, goodbye=True):
        pass


def offline(vault=None, keep="reboot"):
    """Return a device with an outbox that reaches no broker."""
    rig = Rig(provisioned(good()) if vault is None else vault)
    agent = rig.agent
    rig.device._parts = None
    agent.client = Client()
    found = records.load_apps(agent.vault)
    counter = resume_counter(agent.vault)
    agent.sessions = [
        ResumableSession(agent.names, app.appid, app.key, counter, DIGEST, app.authority)
        for app in found
    ]
    agent.delivery = Delivery(agent, found, dict(TERMS, outbox_keep=keep))
    return rig


def resume_counter(vault):
    from warden.session.session import HelloCounter

    return HelloCounter(vault.counter("boot"), bytes(32), vault)


def slept(rig, keep="reboot"):
    """Let the device sleep; return it after the sleep."""
    vault, memory = rig.agent.vault, Memory()
    asyncio.run(leave(rig.agent, 60, memory))
    again = Vault(vault.store, vault._root)
    again.open()
    generation = again.generation
    saved = resume.load(again, memory, NOW + 60)
    check(saved is not None, "it was saved for this vault")
    after = offline(again, keep)
    after.agent.delivery.resume(saved.outbox)
    equal(again.generation, generation)
    return after, saved.outbox


def waiting(rig):
    return [entry.number for entry in rig.agent.delivery._outbox.entries()]


def publish(rig):
    return asyncio.run(rig.device.publish("door", {}))


def test_an_event_that_found_no_broker_leaves_at_the_next_wake_up():
    for keep in ("connection", "reboot"):
        rig = offline(keep=keep)
        equal(publish(rig), "queued")
        rig, outbox = slept(rig, keep)
        equal(waiting(rig), [1])
        # What the vault has is not kept twice.
        equal(outbox[2] == b"", keep == "reboot")
        publish(rig)
        rig, _ = slept(rig, keep)
        equal(waiting(rig), [1, 2])


def test_a_sleep_without_news_costs_the_flash_nothing():
    rig = offline()
    publish(rig)
    rig, _ = slept(rig)
    generation = rig.agent.vault.generation
    for _ in range(3):
        rig, _ = slept(rig)
    equal((rig.agent.vault.generation, waiting(rig)), (generation, [1]))


def test_what_the_flash_did_not_take_sleeps_in_the_memory():
    rig = offline()
    publish(rig)
    rig.agent.delivery.save()
    publish(rig)
    rig.agent.delivery.on_ack("home", 1)

    def commit(changes, counters=None):
        raise StoreError("vault-limit")

    rig.agent.vault.commit = commit
    rig, outbox = slept(rig)
    equal(waiting(rig), [2])
    # And is saved when there is room again.
    check(rig.agent.delivery._save_due() is not None)
    rig.agent.delivery.save()
    equal(waiting(slept(rig)[0]), [2])
