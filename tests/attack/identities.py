"""Attacks with an identity of the fleet: its password, a copy of it, an application's account."""

import contextlib
import time

from attack.arena import PATIENCE_S, TYPE, Arena, start_session
from attack.raw_client import RawClient
from attack.registry import Result, attack
from fleet_kit import PROBE, Board
from host_kit import PeerDevice
from warden_host import names
from warden_host.broker.accounts import app_account, machine_password
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.places import TURNS
from warden_host.devices import provision
from warden_host.engine.clones import ENOUGH
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.store.store import Store

_ELSEWHERE = "127.0.0.2"  # the attacker's address
_MOST_TURNS = 20


def connect(arena: Arena, device: str, source: str = "") -> RawClient:
    client = RawClient(arena.ca, arena.port, source=source)
    if client.log_in(names.device_client(TYPE, device), arena.passwords[device]):
        client.close()
        raise ConnectionError(f"{device} was refused")
    return client


def has_session(client: RawClient, peer: PeerDevice) -> bool:
    """Say hello, answer wakes, and return whether a session came up."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        start_session(client, peer, seconds=0.5)
        return True
    return False


@attack("stolen password", "without the keys it opens no session, and reads no command")
def stolen_password(arena: Arena) -> Result:
    arena.add_device("STOLEN")
    victim = arena.peer("STOLEN")
    thief = PeerDevice(b"?" * 32, policy.policy_hash(b""), device="STOLEN")
    sessions = 0
    began = time.time()
    with arena.honest() as notice, contextlib.ExitStack() as stack:
        for turn in range(TURNS + 2):
            client = stack.enter_context(
                connect(arena, "STOLEN", "" if turn % 2 == 0 else _ELSEWHERE)
            )
            if turn % 2 == 0:
                start_session(client, victim)
            else:
                sessions += has_session(client, thief)
        seen, seen_s = arena.wait_seen(
            lambda event: event.device == "STOLEN" and event.code == "account-shared", began
        )
    return Result(
        seen, "" if sessions else "no session without the keys", seen_s, None, {"honest": notice}
    )


@attack("cloned identity", "two lines of counters under one identity are a copy: quarantine")
def cloned_identity(arena: Arena) -> Result:
    arena.add_device("CLONED")
    original, copy = arena.peer("CLONED"), arena.peer("CLONED")
    original.boot = 5
    began = time.time()

    def is_seen() -> bool:
        return any(
            (event.device, event.code, event.kind) == ("CLONED", "device-cloned", "reaction")
            for event in arena.news.all()
        )

    with arena.honest() as notice, contextlib.ExitStack() as stack:
        turns = 0
        while turns < _MOST_TURNS and not is_seen():
            turns += 1
            for peer, source in ((original, ""), (copy, _ELSEWHERE)):
                with contextlib.suppress(ConnectionError):  # refused while it is quarantined
                    has_session(stack.enter_context(connect(arena, "CLONED", source)), peer)
            if turns >= ENOUGH:
                arena.wait_seen(lambda event: event.code == "device-cloned", began, 2)
        seen, seen_s = arena.wait_seen(
            lambda event: (
                (event.device, event.code, event.kind) == ("CLONED", "device-cloned", "reaction")
            ),
            began,
        )
        blocked = ""
        try:
            arena.authority.command(Request("CLONED", "set_relay", {"on": 1}, timeout_s=5))
        except HostError as error:
            blocked = "in quarantine" if error.code == "quarantined" else ""
    blocked_s = time.time() - began
    return Result(seen, blocked, seen_s, blocked_s, {"honest": notice, "turns": turns})


@attack("forged application", "the device obeys keys, not accounts", short=False)
def forged_application(arena: Arena) -> Result:
    """Have another application's account command a device of the real firmware."""
    order = provision.Order("REAL", TYPE, app_source=PROBE, commands=("set_relay",))
    password = machine_password()
    with Store(arena.fleet.database) as store:
        provision.provision(arena.fleet, store, order)
    home = arena.fleet.simulated("REAL")
    (home / "root" / "app" / "app.py").write_bytes(PROBE.read_bytes())
    with registry.opened(arena.fleet) as accounts:
        accounts.put(app_account("evil", (TYPE,), password))
        accounts.put(app_account("other", ("lamp",), password))
    arena.authority.reload()
    base = f"{names.topic_base(TYPE, 'REAL')}/cmd/set_relay/fmt"
    forged = PeerDevice(b"?" * 32, policy.policy_hash(b""), device="REAL")
    forged.keys = dict.fromkeys(("up key", "down key"), b"k" * 32)
    forged.keys |= {"up iv": b"i" * 13, "down iv": b"i" * 13, "sid": b"s" * 8}
    began = time.time()
    with arena.honest() as notice, Board(home) as board:
        board.wait_line("log session-stands")
        began = time.time()
        for appid in ("other", "evil"):
            with RawClient(arena.ca, arena.port) as client:
                client.log_in(names.app_client(appid), password)
                client.publish(f"{base}/cose", forged.seal("set_relay", [1, 30, {"on": 1}]))
                client.publish(f"{base}/json", b'{"id":1,"on":1}')
                client.ping()
        seen, seen_s = arena.wait_seen(
            lambda event: event.kind == "incident" and event.device == "REAL", began
        )
        # It does what the authority orders behind them, and prints it, as it would have these.
        arena.authority.command(Request("REAL", "set_relay", {"on": 7}, timeout_s=PATIENCE_S))
        board.wait_line("relay 7")
        obeyed = [line for line in board.lines.all() if line.startswith("relay ")]
    blocked = "the device refused it" if obeyed == ["relay 7"] else ""
    return Result(seen, blocked, seen_s, None, {"honest": notice})
