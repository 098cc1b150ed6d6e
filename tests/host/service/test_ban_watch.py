"""The watch over addresses, its operations for operators, and `warden bans` with both."""

import json
import os
import queue
import time
from types import SimpleNamespace

import pytest
from host_kit import new_fleet, refused
from process_kit import PATIENCE_S
from warden_host.alarms.rules import alarm_of
from warden_host.bans import ban_log, changes, enforcement
from warden_host.bans.settings import BanSettings
from warden_host.broker.backend import Attempt, AttemptKind
from warden_host.cli import main
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.service import ban_watch
from warden_host.service.ban_handler import BanHandler
from warden_host.service.ban_watch import OPERATOR, BanWatch
from warden_host.service.control import Caller, ControlServer
from warden_host.store.bans import BAN, SLOW, Ban
from warden_host.store.operators import Operator
from warden_host.store.store import App, Device, Store

A, HOME = "203.0.113.7", "198.51.100.7"
LOOPBACK = ("127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1")
TERMS = BanSettings()


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.setattr("warden_host.bans.enforcement.has_firewall_right", lambda: False)
    monkeypatch.setattr("warden_host.bans.enforcement.is_local", lambda _: False)
    made = new_fleet(tmp_path)
    with Store(made.database) as store:
        for name in ("D1", "D2"):
            store.add_device(Device(name, "lock", "UNIX", "sealed", policy.record()))
        store.add_app(App("home", ("lock",), ("open",)))
        with store.transaction():
            store.order_ending("D2", revoked=True, wipe=False, moment=1.0)
    return made


class World:
    def __init__(self, fleet) -> None:
        self.fleet = fleet
        self.news: queue.Queue[FleetEvent] = queue.Queue()
        self.watch = BanWatch(
            fleet, TERMS, lambda client: client == "probe", self.news.put, lambda _: False
        )
        self.number = 0
        self.now = time.time

    def attempts(self, kind: AttemptKind, address: str, client: str = "", times: int = 1) -> None:
        for _ in range(times):
            self.number += 1
            self.watch.attempt(Attempt(kind, self.now(), address, client, self.number))

    def refuse(self, address: str, times: int = 3, client: str = "") -> None:
        self.attempts(AttemptKind.REFUSED, address, client, times)

    def log_in(self, address: str, client: str) -> None:
        self.attempts(AttemptKind.LOGGED_IN, address, client)

    def event(self) -> FleetEvent:
        return self.news.get(timeout=PATIENCE_S)

    def settle(self) -> list[Ban]:
        """The bans, once all that was put in has been judged."""
        self.watch.reload()
        with Store(self.fleet.database) as store:
            return store.bans(time.time())


@pytest.fixture
def world(fleet):
    made = World(fleet)
    with made.watch:
        event = made.event()
        assert event.code == "bans-unenforced"
        assert "none is blocked: this process may not change nftables" in event.text
        yield made


def test_bans_and_lists_hold_for_the_console(world, monkeypatch):
    assert not world.watch.keeps_out(A)
    world.refuse(A)
    world.settle()
    assert world.watch.keeps_out(A) and not world.watch.keeps_out(HOME)
    with Store(world.fleet.database) as store:
        changes.change_list(store, "allow", [A])
        changes.activate(store, TERMS, "allow")
    world.watch.reload()
    assert world.watch.keeps_out(HOME)
    assert not any(map(world.watch.keeps_out, LOOPBACK))
    monkeypatch.setattr(world.watch, "_is_own", lambda address: True)
    assert not world.watch.keeps_out(HOME)


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_is_watched_and_never_banned_or_known(world, address):
    """`warden` itself, a proxy and the bridge connect by it: a ban would stop the fleet."""
    world.log_in(address, "d:lock:D1")
    world.refuse(address, 50, "a:home")
    world.refuse(A, 2)
    assert world.settle() == []
    assert address not in world.watch.known
    assert world.watch.strikes.count(address) == 0
    assert world.watch.strikes.count(A) == 2
    assert not world.watch.keeps_out(address)
    refused = [line for line in ban_log.read(world.fleet) if f" refused {address} " in line]
    assert len(refused) == 50  # and said in the log


def test_the_firewall_keeps_them_from_the_consoles_port_too(world):
    with Store(world.fleet.database) as store:
        before = world.watch.enforcement.wanted(store, 0.0).ports
        world.watch.guard_console(8443)
        world.settle()
        assert world.watch.enforcement.wanted(store, 0.0).ports == (*before, 8443)


def test_an_operators_address_is_slowed(world):
    with Store(world.fleet.database) as store:
        store.put_operator(Operator("alice", None, "", ("look",)))
    for name, address in (("alice", HOME), ("nobody", A)):
        world.log_in(address, f"{OPERATOR}:{name}")
        world.refuse(address, 4)
    assert {ban.network: ban.kind for ban in world.settle()} == {
        f"{HOME}/32": SLOW,
        f"{A}/32": BAN,
    }


def test_a_guesser_is_banned_and_it_is_said_what_is_not_enforced(world):
    world.refuse(A, client="d:lock:D1\nbanned 1.2.3.4")
    event = world.event()
    assert event.code == "address-banned"
    assert event.text.startswith(f"{A} is banned: 3 refused log-ins; not enforced: ")
    assert alarm_of(event).kind == "brute-force"
    (ban,) = world.settle()
    assert (ban.network, ban.kind, ban.until) == (f"{A}/32", BAN, None)
    lines = [line.split(" ", 1)[1] for line in ban_log.read(world.fleet)]
    assert lines[2:] == [
        f"refused {A} 3/3 client=d:lock:D1%0Abanned%201.2.3.4",
        f"banned {A} attempts=3",
    ]
    world.log_in(A, "d:lock:D1")  # nothing stopped it
    assert world.event().code == "address-refused"
    world.log_in(A, "d:lock:D1")  # said once
    world.refuse(HOME)
    assert world.event().code == "address-banned"


@pytest.mark.parametrize(
    ("client", "kind"),
    [
        ("d:lock:D1", SLOW),
        ("b:lock:D1", SLOW),
        ("a:home", SLOW),
        ("t:home:7", SLOW),
        ("d:lock:D2", BAN),  # revoked: it makes no address known
        ("d:lock:D3", BAN),
        ("a:attic", BAN),
        ("warden-admin", BAN),
    ],
)
def test_a_client_of_the_fleet_makes_its_address_known(world, client, kind):
    world.log_in(HOME, client)
    world.refuse(HOME, 4)
    (ban,) = world.settle()
    assert ban.kind == kind
    assert (ban.until is None) == (kind == BAN)


def test_who_is_known_stays_known_after_a_restart(fleet):
    first = World(fleet)
    with first.watch:
        first.log_in(HOME, "d:lock:D1")
    second = World(fleet)
    with second.watch:
        second.refuse(HOME, 4)
        assert [ban.kind for ban in second.settle()] == [SLOW]


def test_what_is_no_guess(world):
    world.refuse(A, 9, client="probe")  # this host's own question
    world.refuse("127.0.0.1", 9)
    world.refuse(A, 2)
    world.attempts(AttemptKind.CLEARED, A)
    world.number -= 2
    world.attempts(AttemptKind.CLEARED, A)  # the number of the second refusal
    world.number += 10
    world.refuse(A, 1)
    assert world.settle() == []


def test_a_flood_is_bounded_and_announced_sparsely(fleet, monkeypatch):
    monkeypatch.setattr(ban_watch, "MAX_WAITING", 10)
    quiet = World(fleet)
    quiet.refuse(A, 50)  # its thread does not run yet
    assert quiet.watch._lost == 40
    loud, moment = World(fleet), time.time()
    loud.now = lambda: moment  # all within a minute, however slow the machine is
    clock = SimpleNamespace(time=time.time, monotonic=lambda: 100.0)
    monkeypatch.setattr(ban_watch, "time", clock)
    with loud.watch:
        for number in range(60):
            while loud.watch._jobs.full():
                time.sleep(0.001)
            loud.refuse(f"10.0.{number}.1", 1)
        assert len(loud.settle()) > 30
    shown = [loud.event().code for _ in range(loud.news.qsize())]
    assert shown.count("address-banned") == len(shown) - 1 == ban_watch.SHOWN_A_MINUTE


def test_slowed_ones_end_by_themselves(world):
    with Store(world.fleet.database) as store:
        store.put_ban(Ban(f"{A}/32", SLOW, 1.0, time.time() - 1, "watch", "", 3))
    world.watch._looked = float("-inf")  # its time to look has come
    world.log_in(HOME, "d:lock:D1")  # any work
    world.settle()
    assert world.settle() == []  # in a batch of its own: the one before is over
    with Store(world.fleet.database) as store:
        assert store.drop_past_bans(time.time()) == 0  # the watch did


def test_a_fault_does_not_end_the_watch(world, monkeypatch):
    def broken(*_):
        raise KeyError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(world.watch.strikes, "refused", broken)
        world.refuse(A, 1)
        assert world.event().code == "internal-error"
    world.refuse(A, 3)
    assert world.event().code == "address-banned"


@pytest.mark.parametrize("part", ["Strikes.refused", "Store.put_bans", "KnownAddresses.save"])
def test_a_part_of_a_batch_that_fails_costs_no_other_part(fleet, monkeypatch, part):
    """What a request waits for is done, and the thread ends with the batch that ends it."""

    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(getattr(ban_watch, part.split(".")[0]), part.split(".")[1], broken)
    made, done = World(fleet), []
    for _ in range(3):  # in one batch: its thread does not run yet
        made.refuse(A)
        made.watch._jobs.put(done.append)
    made.watch._jobs.put(None)
    with made.watch:
        made.watch._thread.join(PATIENCE_S)
        assert not made.watch._thread.is_alive()
    assert len(done) == 3
    codes = [made.event().code for _ in range(made.news.qsize())]
    assert codes.count("filesystem") == 1


def test_what_applying_raises_is_told_to_who_asked(world, monkeypatch):
    for raised, code in (
        (HostError("not-applicable", "no"), "not-applicable"),
        (OSError(28, "No space left on device"), "filesystem"),
        (KeyError("a bug"), "internal-error"),
    ):

        def broken(*_, raised=raised):
            raise raised

        with monkeypatch.context() as patched:
            patched.setattr(world.watch.enforcement, "apply", broken)
            with refused(code):
                world.watch.reload()
    world.watch.reload()


def test_what_applying_raises_without_a_request_is_announced(fleet, monkeypatch):
    """And keeps `warden serve` from nothing: the watch begins all the same."""

    def broken(*_):
        raise HostError("not-applicable", "no")

    made = World(fleet)
    monkeypatch.setattr(made.watch.enforcement, "apply", broken)
    with made.watch:
        assert made.event().code == "not-applicable"
        assert made.event().code == "bans-unenforced"
        made.watch.guard_console(8443)
        event = made.event()
        assert (event.code, event.text) == ("not-applicable", "no")


def test_a_watch_that_gives_no_answer(fleet, monkeypatch):
    monkeypatch.setattr(ban_watch, "_ANSWER_S", 0.0)
    with refused("not-serving"):
        World(fleet).watch.reload()  # its thread does not run


def ask(world, line: dict) -> list[dict]:
    handler = BanHandler(world.fleet, TERMS, world.watch)
    caller = Caller(0)
    handler.operations[line["op"]](line, caller)
    found = []
    while (answer := caller.next_line(PATIENCE_S)) is not None:
        found.append(answer)
    return found


def test_operators_change_bans_and_lists(world):
    (done,) = ask(world, {"op": "ban", "networks": [A, "2001:db8::/48"], "why": "a scan"})
    assert done["networks"] == [f"{A}/32", "2001:db8::/48"]
    assert done["enforced"] is False
    ask(world, {"op": "address-list", "list": "block", "networks": ["10.0.0.0/8"]})
    ask(world, {"op": "activate-list", "list": "block"})
    *pages, last = ask(world, {"op": "bans"})
    assert {ban["why"] for ban in pages[0]["bans"]} == {"a scan"}
    assert pages[1:] == [{"block": ["10.0.0.0/8"]}]
    assert last["active"] == "block"
    (lifted,) = ask(world, {"op": "lift", "networks": [A]})
    assert lifted["networks"] == [f"{A}/32"]
    assert [ban.network for ban in world.settle()] == ["2001:db8::/48"]
    for line in (
        {"op": "ban", "networks": "x"},
        {"op": "ban", "networks": [7]},
        {"op": "ban", "networks": ["1.2.3.4"] * 1001},
        {"op": "address-list", "networks": ["10.0.0.0/8"]},
    ):
        with refused("control-malformed"):
            ask(world, line)
    with refused("bad-argument"):
        ask(world, {"op": "lift", "networks": [A]})
    with refused("bad-argument"):
        ask(world, {"op": "activate-list", "list": "both"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_root_leaves_nothing_in_a_users_fleet(fleet, tmp_path, capsys):
    for path in (fleet.root, *fleet.root.rglob("*")):
        os.chown(path, 4711, 4711)
    etc = tmp_path / "etc"
    etc.mkdir()
    call = ["--fleet", str(fleet.root)]
    assert main.run([*call, "bans", "fail2ban", "--output", str(etc)]) == 0
    assert main.run([*call, "firewall", "host", "--output", str(etc / "host.nft")]) == 0
    assert main.run([*call, "bans", "apply", "--json"]) == 1
    assert "may not change nftables" in capsys.readouterr().out
    assert {path.name for path in etc.rglob("*.*")} >= {"host.nft", "warden.conf"}
    assert {path.stat().st_uid for path in etc.rglob("*")} == {0}
    assert {path.stat().st_uid for path in fleet.root.rglob("*")} == {4711}
    assert main.run([*call, "bans", "add", A]) == 1  # what would leave files of root's
    assert "belongs to another user" in capsys.readouterr().err


def test_the_command_without_a_service(fleet, capsys):
    def warden(*words: str, code: int = 0) -> dict:
        assert main.run(["--fleet", str(fleet.root), "bans", *words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    assert warden("add", A, "--why", "a scan")["networks"] == [f"{A}/32"]
    warden("allow", "10.0.0.0/8", "192.168.0.0/16")
    warden("allow", "--remove", "192.168.0.0/16")
    warden("activate", "allow")
    found = warden("list")
    assert (found["allow"], found["active"]) == (["10.0.0.0/8"], "allow")
    assert [ban["why"] for ban in found["bans"]] == ["a scan"]
    assert found["enforced"] is False
    assert "not running" in found["why"]
    assert warden("apply", code=1)["error"]["code"] == "not-applicable"
    assert warden("lift", code=2)["error"]["code"] == "bad-argument"
    assert warden("lift", "--all")["count"] == 1
    assert sorted(warden("fail2ban")["files"]) == [
        "action.d/warden.conf",
        "filter.d/warden.conf",
        "jail.d/warden.conf",
    ]
    assert main.run(["--fleet", str(fleet.root), "bans", "list"]) == 0
    assert "list allow, in force: 10.0.0.0/8" in capsys.readouterr().out
    with Store(fleet.database) as store:
        actions = [row.action for row in store.audit_rows() if not row.started]
    assert actions == [
        f"bans add {A} --why",
        "bans allow 10.0.0.0/8,192.168.0.0/16",
        "bans allow 192.168.0.0/16 --remove",
        "bans activate allow",
        "bans apply",
        "bans lift --all",
    ]


def test_memory_follows_what_is_kept(world, monkeypatch):
    monkeypatch.setattr("warden_host.store.bans.MAX_BANS", 20)
    monkeypatch.setattr(ban_watch, "MAX_BANS", 20)
    monkeypatch.setattr(ban_watch, "SPARE_BANS", 5)
    sizes = []
    applied = world.watch.enforcement.apply
    monkeypatch.setattr(
        world.watch.enforcement,
        "apply",
        lambda *given: sizes.append(world.watch.strikes.count_in_force) or applied(*given),
    )
    for number in range(80):
        world.refuse(f"203.0.113.{number}")
    with Store(world.fleet.database) as store:
        world.watch.lifted([])  # behind all of these
        world.watch.reload()
        assert len(store.bans(time.time())) == 20
    assert len(sizes) > 1  # not by the request alone
    assert set(sizes) == {20}


# What fleet.db does not take


class Firewall:
    """Stands for nftables: the scripts that it was given."""

    def __init__(self, monkeypatch) -> None:
        self.scripts: list[str] = []
        module = "warden_host.bans.enforcement"
        monkeypatch.setattr(f"{module}.may_enforce", lambda: enforcement.OK)
        monkeypatch.setattr(f"{module}._run_nft", self.run)
        monkeypatch.setattr(enforcement.Enforcement, "_is_loaded", lambda _: True)

    def run(self, script: str) -> enforcement.Status:
        self.scripts.append(script)
        return enforcement.OK


FULL = HostError("database-damaged", "fleet.db: database or disk is full")


@pytest.fixture
def full(fleet, monkeypatch):
    """A watch with a firewall, whose fleet.db takes no bans until full.undo() is called."""

    def put(*_):
        raise FULL

    made = World(fleet)
    made.firewall = Firewall(monkeypatch)
    with pytest.MonkeyPatch.context() as patched, made.watch:
        patched.setattr(Store, "put_bans", put)
        made.undo = patched.undo
        yield made


def look_again(world: World) -> list[Ban]:
    """The bans in fleet.db, once the time to look has come."""
    world.watch._looked = float("-inf")
    world.settle()
    return world.settle()  # in a batch of its own: the one before is over


def test_a_ban_is_in_force_where_it_can_not_be_stored_and_is_stored_later(full):
    full.refuse(A)
    codes = {full.event().code: None for _ in range(2)}
    assert list(codes) == ["database-damaged", "address-banned"]
    assert A in full.firewall.scripts[-1]
    assert full.settle() == []
    assert A in full.firewall.scripts[-1]  # the whole table, loaded anew
    assert full.watch.keeps_out(A)
    assert [ban["network"] for ban in ask(full, {"op": "bans"})[0]["bans"]] == [f"{A}/32"]
    full.refuse(HOME)
    assert full.event().code == "address-banned"  # it was told that nothing is stored
    full.undo()
    assert {ban.network for ban in look_again(full)} == {f"{A}/32", f"{HOME}/32"}
    assert full.watch.enforcement.pending == {}


def test_a_ban_that_was_never_stored_ends_with_the_service(fleet, full):
    full.refuse(A)
    full.settle()
    full.watch.__exit__()
    before = len(full.firewall.scripts)
    again = World(fleet)
    with again.watch:
        assert len(full.firewall.scripts) == before + 1  # the table follows fleet.db
        assert A not in full.firewall.scripts[-1]
        assert not again.watch.keeps_out(A)


def test_a_ban_is_stored_at_the_end_if_not_before(fleet, full):
    full.refuse(A)
    full.settle()
    full.undo()
    full.watch._jobs.put(None)
    full.watch._thread.join(PATIENCE_S)
    with Store(fleet.database) as store:
        assert [ban.network for ban in store.bans(time.time())] == [f"{A}/32"]


def test_a_ban_that_waits_is_lifted_and_not_stored(full):
    full.refuse(A)
    full.settle()
    *_, end = ask(full, {"op": "lift", "networks": [A]})
    assert end["networks"] == [f"{A}/32"]
    assert A not in full.firewall.scripts[-1] and not full.watch.keeps_out(A)
    full.undo()
    assert look_again(full) == []


def test_the_owner_lifts_a_ban_that_waits(full, monkeypatch, capsys):
    monkeypatch.setenv("WARDEN_FLEET", str(full.fleet.root))
    handler = BanHandler(full.fleet, TERMS, full.watch)
    full.refuse(A)
    full.settle()
    with ControlServer(
        full.fleet.control, lambda line, caller: handler.operations[line["op"]](line, caller)
    ):
        assert main.run(["bans", "lift", A]) == 0
    assert f"lifted: {A}" in capsys.readouterr().out
    assert full.watch.enforcement.pending == {}
    assert A not in full.firewall.scripts[-1]


def test_what_a_person_bans_meanwhile_stays(full):
    slow = Ban(f"{A}/32", SLOW, 1.0, time.time() + 3600, "watch", "", 3)
    full.watch.enforcement.pending = {slow.network: slow}
    full.undo()
    with Store(full.fleet.database) as store:
        changes.add(store, [A], "owner me", "")
    assert [(ban.kind, ban.source) for ban in look_again(full)] == [(BAN, "owner me")]


def test_bans_that_wait_are_bounded(full, monkeypatch):
    monkeypatch.setattr(ban_watch, "MAX_PENDING", 3)
    for number in range(5):
        full.refuse(f"203.0.113.{number}")
    full.settle()
    assert list(full.watch.enforcement.pending) == [f"203.0.113.{n}/32" for n in (2, 3, 4)]


def test_a_ban_is_in_force_before_it_is_stored(fleet, monkeypatch):
    """The disk may be slow, or another process have the database."""
    steps: list[str] = []
    made, firewall = World(fleet), Firewall(monkeypatch)
    put = Store.put_bans
    monkeypatch.setattr(
        Store, "put_bans", lambda *given: steps.append(firewall.scripts[-1]) or put(*given)
    )
    with made.watch:
        made.refuse(A)
        assert [ban.network for ban in made.settle()] == [f"{A}/32"]
    assert len(steps) == 1 and A in steps[0]


def test_a_firewall_that_fails_by_a_bug_keeps_no_ban_from_being_stored(world, monkeypatch):
    def broken(*_):
        raise KeyError("a secret")

    monkeypatch.setattr(world.watch.enforcement, "add", broken)
    world.refuse(A)
    event = world.event()
    assert (event.code, "KeyError at " in event.text) == ("internal-error", True)
    assert "secret" not in event.text
    assert [ban.network for ban in world.settle()] == [f"{A}/32"]


def test_a_full_disk_keeps_no_rules_from_being_loaded_anew(world, monkeypatch):
    """Where another program flushed them."""

    def broken(*_):
        raise FULL

    restored: list[object] = []
    for name in ("drop_past_bans", "note_logins"):
        monkeypatch.setattr(Store, name, broken)
    monkeypatch.setattr(world.watch.enforcement, "restore", lambda *_: restored.append(None))
    world.log_in(HOME, "d:lock:D1")  # is to be saved
    world.watch._looked = float("-inf")
    world.settle()
    world.settle()
    assert restored
