"""Failures of the application: counted, reported, and a pause after three in a row."""

import asyncio
import sys

from board_model import DictStore, PowerCut, RootKey
from harness import check, equal
from warden.board import app_failures, load
from warden.errors import LinkError, StoreError
from warden.hal import reset_cause
from warden.ota import result as results
from warden.vault import Vault

RECORD = "failures"
HELD = True
MINUTE = 60000


class Store(DictStore):
    """full: whether nothing can be written."""

    full = False

    def write(self, name, data):
        if self.full:
            raise StoreError("vault-limit", "full")
        super().write(name, data)


class Board:
    STORE = ROOT_KEY = ()


class World:
    """A provisioned board. It starts, and its application ends, as firmware/main.py has it."""

    def __init__(self):
        self.store = Store()
        self.ended = ""
        self.result = None
        vault = Vault(self.store, RootKey())
        vault.create()
        vault.put("identity", b"x")

    def __enter__(self):
        self.kept = load.store, load.root_key, reset_cause.ended, results.boot_result
        load.store, load.root_key = lambda args: self.store, lambda *args: RootKey()
        reset_cause.ended = lambda: self.ended
        sys.modules["board"] = Board
        return self

    def __exit__(self, *_):
        load.store, load.root_key, reset_cause.ended, results.boot_result = self.kept
        del sys.modules["board"], load.opened[:]

    def start(self, ended="", trial=False, failed=0):
        """Return whether the start holds the application back."""
        self.ended = ended
        results.boot_result = results.BootResult("application", 0, trial, failed)
        app_failures._pause_ms = 0
        del load.opened[:]
        return load.app_held()

    def fail(self, at="ValueError"):
        load.app_ended(at)

    def vault(self):
        vault = Vault(self.store, RootKey())
        vault.open()
        return vault

    def fields(self):
        return app_failures._load(self.vault())


class Agent:
    """As much of an agent as run() uses. It is up after so many milliseconds; None: never."""

    def __init__(self, vault, up_ms=0, busy_ms=0):
        self.vault = vault
        self.now = 0
        self.plain = None
        self.sent = []
        self.events = []
        self.broken = 0
        self.ends = 1000 * MINUTE  # then the application ends the agent
        self.up_ms = up_ms
        self.busy_ms = busy_ms
        self.ota = self.client = self.session_up = self

    def now_ms(self):
        return self.now

    def log(self, code, text):
        self.events.append(code)

    def busy(self):
        return self.now < self.busy_ms

    async def send(self, event, body):
        equal(event, "incident")
        if self.up_ms is None or self.now < self.up_ms:
            return False
        if self.broken:
            self.broken -= 1
            raise LinkError("link-closed")
        self.sent.append((body["code"], body["n"], body["at"]))
        return True

    async def disconnect(self):
        self.events.append("disconnected")

    def restart(self):
        raise SystemExit

    class TimeoutError(Exception):
        """Of asyncio."""

    # asyncio of the module under test: time passes when the task sleeps.
    async def wait_for_ms(self, work, ms):
        if self.up_ms is None or self.up_ms > self.now + ms:
            self._pass(self.now + ms)
            work.close()
            raise self.TimeoutError
        await work

    async def wait(self):
        self._pass(max(self.now, self.up_ms))

    async def sleep_ms(self, ms):
        self._pass(self.now + ms)

    def _pass(self, now):
        self.now = now
        check(now < 1000 * MINUTE, "it never ends")
        if now >= self.ends:
            raise SystemExit

    def run(self):
        """Return whether the agent's start ended by a restart."""
        app_failures.asyncio, kept = self, app_failures.asyncio
        try:
            check(asyncio.run(app_failures.run(self)))
            check("warden.board.app_failures" not in sys.modules)
            return False
        except SystemExit:
            return True
        finally:
            app_failures.asyncio = kept
            sys.modules["warden.board.app_failures"] = app_failures  # for the next start
            sys.modules["warden.board"].app_failures = app_failures


def test_a_failure_is_reported_and_a_good_run_ends_the_row():
    with World() as world:
        check(not world.start())
        check(RECORD not in world.vault().names())
        world.fail()
        check(not world.start())
        agent = Agent(world.vault(), up_ms=2 * MINUTE)
        agent.broken = 1  # the connection breaks: it is sent once more
        check(not agent.run())
        equal(agent.sent, [("app-failed", 1, "valueerror")])
        check(5 * MINUTE <= agent.now < 6 * MINUTE)
        check(RECORD not in world.vault().names())


def test_three_in_a_row():
    """The agent alone, with a pause that grows; then one start of the application."""
    with World() as world:
        for _ in range(3):
            check(not world.start())
            world.fail()
        pauses = []
        for _ in range(7):
            equal(world.start(), HELD)
            agent = Agent(world.vault())
            check(agent.run())
            equal([len(agent.sent), agent.events[-1]], [1, "disconnected"])
            pauses.append(agent.now // MINUTE)
            check(not world.start())
            world.fail("MemoryError")
        equal(pauses, [5, 10, 20, 40, 80, 80, 80])
        equal(agent.sent, [("app-failed", 1, "memoryerror")])
        # Mended in between: the row ends with a good run.
        equal(world.start(), HELD)
        check(Agent(world.vault()).run())
        check(not world.start())
        check(not Agent(world.vault()).run())
        check(RECORD not in world.vault().names())


def test_it_is_reported_once_even_if_no_session_comes_for_long():
    with World() as world:
        for _ in range(3):
            world.fail()
        equal(world.start(), HELD)
        agent = Agent(world.vault(), up_ms=None)
        check(agent.run())
        equal(agent.sent, [])
        check(not world.start())
        agent = Agent(world.vault(), up_ms=30 * MINUTE)
        check(not agent.run())
        equal(agent.sent, [("app-failed", 3, "valueerror")])
        check(RECORD not in world.vault().names())


def test_an_update_is_not_cut_by_the_end_of_the_pause():
    with World() as world:
        for _ in range(3):
            world.fail()
        equal(world.start(), HELD)
        agent = Agent(world.vault(), busy_ms=90 * MINUTE)
        check(agent.run())
        check(agent.now >= 90 * MINUTE)


def test_the_watchdog_counts():
    with World() as world:
        for number in range(1, 4):
            equal(world.start(ended="watchdog"), number == 3)
        equal(world.fields(), [3, 3, "watchdog", 0])
        # What hangs without the application is not the application.
        equal(world.start(ended="watchdog"), HELD)
        equal(world.fields()[0], 3)
        check(Agent(world.vault()).run())
        check(not world.start())
        equal(world.start(ended="watchdog"), HELD)
        equal(world.fields(), [4, 1, "watchdog", 0])


def test_an_application_that_resets_the_board():
    """Counted from the second reset on: a start after a power-up writes nothing."""
    with World() as world:
        check(not world.start())
        check(RECORD not in world.vault().names())
        for number in range(3):
            check(not world.start(ended="reset"))
            equal(world.fields()[:2], [number, number])
        equal(world.start(ended="reset"), HELD)
        equal(world.fields(), [3, 3, "reset", 0])
        agent = Agent(world.vault())
        check(agent.run())
        equal(agent.sent, [("app-failed", 3, "reset")])
        # The agent's own restart is none; the one start of the application that it resets is.
        check(not world.start(ended="reset"))
        equal(world.start(ended="reset"), HELD)
        equal(world.fields()[:3], [4, 1, "reset"])
        agent = Agent(world.vault())
        check(agent.run())
        check(agent.now >= 10 * MINUTE)


def test_a_start_that_a_session_or_a_minute_confirms():
    """One that sleeps between two messages, or gives a bad network a minute, is never held."""
    for up_ms in (100, None):
        with World() as world:
            for _ in range(9):
                check(not world.start(ended="reset"))
                agent = Agent(world.vault(), up_ms)
                check(not agent.run())
                check(RECORD not in world.vault().names())
    for after, expected in ((59000, 1), (61000, 0)):
        with World() as world:
            check(not world.start(ended="reset"))
            agent = Agent(world.vault(), None)
            agent.ends = after  # then the application resets the board
            agent.run()
            check(not world.start(ended="reset"))
            equal(world.fields()[0], expected)


def test_a_planned_end_confirms_the_start():
    """Device.stop() and Device.sleep(), without a session: an outage holds nothing back."""
    with World() as world:
        for _ in range(9):
            check(not world.start(ended="reset"))
            app_failures.confirm(world.vault())
            check(RECORD not in world.vault().names())
        app_failures.confirm(world.vault())  # nothing to confirm
        check(RECORD not in world.vault().names())


def test_a_confirmed_start_after_a_pause():
    """A hang of it is a failure still, a reset is not."""
    for ended, row in (("watchdog", 4), ("reset", 3), ("", 3)):
        with World() as world:
            for _ in range(3):
                world.fail()
            equal(world.start(), HELD)
            check(Agent(world.vault()).run())
            check(not world.start(ended="reset"))
            agent = Agent(world.vault())
            agent.ends = MINUTE
            agent.run()
            equal(world.start(ended=ended), HELD)
            equal(world.fields()[0], row)


def test_an_end_that_was_recorded_is_not_counted_twice():
    with World() as world:
        for number in range(3):
            check(not world.start(ended="reset"))
            world.fail()
            equal(world.fields(), [number + 1, number + 1, "valueerror", 0])


def test_a_trial_that_resets_the_board():
    with World() as world:
        check(not world.start(ended="reset", trial=True))
        check(not world.start(ended="reset", trial=True))
        check(not world.start(ended="reset", failed=2))
        equal(world.fields()[:3], [0, 2, "reset"])


def test_the_console_of_development_mode_resets_as_it_likes():
    kept, load._may_develop = load._may_develop, lambda *_: True
    try:
        with World() as world:
            for _ in range(5):
                check(not world.start(ended="reset"))
            check(RECORD not in world.vault().names())
    finally:
        load._may_develop = kept


def test_a_power_cut_is_no_way_around_the_pause():
    """One start of the application at the end of each pause, whatever ends it."""
    with World() as world:
        for _ in range(3):
            world.fail()
        equal(world.start(), HELD)
        check(Agent(world.vault()).run())
        check(not world.start())
        equal(world.start(), HELD)
        equal(world.fields()[0], 3)


def test_a_trial_has_its_own_limit():
    """Its failures are reported; neither they nor those before keep it from starting."""
    with World() as world:
        for _ in range(5):
            check(not world.start(trial=True))
            world.fail()
        check(not world.start(trial=True, ended="watchdog"))
        # Given up: this failure was the trial's as well.
        check(not world.start(failed=2, ended="watchdog"))
        equal(world.fields(), [0, 7, "watchdog", 0])
        for _ in range(3):
            world.fail()
        equal(world.start(), HELD)
        check(not world.start(trial=True))
        check(not Agent(world.vault()).run())
        check(RECORD not in world.vault().names())


def test_odd_names_of_exceptions():
    with World() as world:
        for name, at in (("OSError", "oserror"), ("E" * 33, "exception"), ("Ä", "exception")):
            world.fail(name)
            equal(world.fields()[2], at)


def test_a_full_flash():
    """Nothing is recorded; the agent goes on, and the pause is kept."""
    with World() as world:
        world.fail()
        world.store.full = True
        check(not world.start(ended="watchdog"))
        for _ in range(3):
            check(not world.start())
        vault = load.opened[0]
        equal(vault.get("identity"), b"x")
        agent = Agent(vault)
        check(not agent.run())
        equal(len(agent.sent), 1)
        equal(vault.get("identity"), b"x")
        world.store.full = False
        world.fail()
        world.fail()
        equal(world.start(), HELD)
        check(Agent(world.vault()).run())
        world.store.full = True
        equal(world.start(), HELD)  # its turn can't be recorded


def test_a_board_without_a_vault_starts_its_application():
    with World() as world:
        world.store.files.clear()
        check(not world.start())
        equal(load.opened, [])
        try:
            world.fail()
            check(False)
        except StoreError as error:
            equal(error.code, "not-provisioned")


def test_cut_at_every_operation():
    """At each cut the record is the one before or the one after, and the vault opens."""

    def count(world):
        world.fail()

    def hold(world):
        app_failures.hold(world.vault(), "watchdog")

    def report(world):
        Agent(world.vault()).run()

    def hold_reset(world):
        app_failures.hold(world.vault(), "reset")

    for work in (count, hold, report, hold_reset):
        cuts = 0
        while True:
            with World() as world:
                world.fail()
                before = world.fields()
                world.store.log.clear()
                world.store.budget = cuts
                try:
                    work(world)
                    done = True
                except PowerCut:
                    done = False
                world.store.budget = None
                after = world.fields()
                if work is report:
                    check(after in (before, [1, 0, "valueerror", 0], [0, 0, "", 0]), after)
                else:
                    check(after[0] in (1, 2) and after[0] == after[1], after)
                check(not world.start())
            if done:
                break
            cuts += 1
        check(cuts >= 3, cuts)
