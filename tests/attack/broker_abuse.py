"""Attacks of one account on the broker: topics of others, traps left behind, malformed packets."""

import contextlib
import time

from attack.arena import PATIENCE_S, TYPE, Arena
from attack.raw_client import connect_packet, field, packet
from attack.registry import Result, attack
from warden_host import names
from warden_host.broker.accounts import app_account, machine_password
from warden_host.broker.mosquitto import registry

REFUSED = 0x80
_UNSEEN = "no news: it got nothing"


def topic(device: str, way: str, verb: str, fmt: str = "cose") -> str:
    return f"{names.topic_base(TYPE, device)}/{way}/{verb}/fmt/{fmt}"


@attack("topic spying", "an account subscribes to its own commands alone")
def topic_spying(arena: Arena) -> Result:
    arena.add_device("SPY")
    own = f"{names.topic_base(TYPE, 'SPY')}/cmd/#"
    filters = [
        "#",
        "+/#",
        "$SYS/#",
        "$CONTROL/#",
        "$CONTROL/dynamic-security/v1/response",
        "$share/all/iot-2/#",
        f"$share/all/{own}",
        "iot-2/type/+/id/+/evt/#",
        "iot-2/type/+/id/+/cmd/#",
        f"{names.topic_base(TYPE, 'H0')}/cmd/#",
        f"{names.topic_base(TYPE, 'SPY')}/#",
        f"{names.topic_base(TYPE, 'SPY')}/evt/#",
        f"iot-2/type/{TYPE}/id/SPY/../H0/cmd/#",
    ]
    began = time.time()
    with arena.honest() as notice, arena.client("SPY") as spy:
        granted = [each for each in filters if spy.subscribe(each)[-1:] != [REFUSED]]
        listens = spy.subscribe(own)[-1:] != [REFUSED]
        for number in range(3):  # what honest devices get meanwhile
            arena.command(f"H{number % len(arena.honest_names)}")
        heard = []
        with contextlib.suppress(TimeoutError):
            while (got := spy.read_packet(0.3)) is not None:
                heard.append(got)
    blocked = "the broker refused each filter" if listens and not granted and not heard else ""
    return Result(_UNSEEN, blocked, None, time.time() - began, {"honest": notice})


@attack("malformed packets", "the broker ends that connection, and no other")
def malformed_packets(arena: Arena) -> Result:
    password = arena.add_device("MAL")
    user = names.device_client(TYPE, "MAL")
    connect = connect_packet(user, user, password)
    long_name = "x" * 60000
    first = {
        "no CONNECT first": packet(0x30, field("a") + b"x"),
        "a length of five bytes": b"\x10\xff\xff\xff\xff\x01",
        "an unknown protocol": packet(0x10, field("MQXX") + b"\x04\xc2\x00\x3c" + field("c")),
        "reserved flag": packet(0x10, field("MQTT") + b"\x04\xc3\x00\x3c" + field(user) * 3),
        "cut short": connect[:-5] + b"\0",
        "no client ID": connect_packet("", user, password),
        "long client ID": connect_packet(long_name, user, password),
    }
    after = {
        "second CONNECT": connect,
        "packet type 0": packet(0x00, b""),
        "SUBSCRIBE without filters": packet(0x82, b"\0\1"),
        "SUBSCRIBE flags": packet(0x80, b"\0\1" + field("a") + b"\0"),
        "topic of 60000 bytes": packet(0x30, field(long_name) + b"x"),
        "topic not UTF-8": packet(0x30, field(b"\xff\xfe") + b"x"),
        "topic with NUL": packet(0x30, field(b"a\0b") + b"x"),
        "topic with a wildcard": packet(0x30, field("a/#") + b"x"),
        "200 levels": packet(0x30, field("/" * 201) + b"x"),
        "QoS 3": packet(0x36, field("a") + b"\0\1x"),
        "100 KB": packet(0x30, field(topic("MAL", "evt", "x")) + bytes(100_000)),
        "PUBLISH cut short": packet(0x30, b"\x00\xff"),
    }
    began = time.time()
    survived = []
    with arena.honest() as notice:
        for name, data in first.items():
            with arena.client() as client, contextlib.suppress(OSError):
                client.socket.sendall(data)
                client.socket.shutdown(1)
                got = client.read_packet()
                if got is not None and got[:1] == (0x20,) and got[1][1:] == b"\0":
                    survived.append(name)
        for name, data in after.items():
            with arena.client("MAL") as client, contextlib.suppress(OSError):
                client.socket.sendall(data)
                if client.ping():
                    survived.append(name)
        with arena.client("MAL") as client:
            again = client.ping()
    blocked = "connection ended" if again and not survived else ""
    return Result(
        arena.logged(user),
        blocked,
        None,
        time.time() - began,
        {"honest": notice, "kinds": len(first) + len(after), "survived": survived},
    )


@attack("retained traps", "nothing is retained: who tries is disconnected")
def retained_traps(arena: Arena) -> Result:
    """Leave a retained event, and a retained last will, for those who subscribe later."""
    password = arena.add_device("TRAP")
    user = names.device_client(TYPE, "TRAP")
    own = topic("TRAP", "evt", "x")
    began = time.time()
    kept = []
    with arena.honest() as notice:
        with arena.client("TRAP") as client, contextlib.suppress(OSError):
            client.publish(own, b"trap", retain=True)
            if client.ping():
                kept.append("event")
        with arena.client() as client:
            if client.log_in(user, password, will=(own, b"trap", True)) == 0:
                kept.append("last will")
        with registry.opened(arena.fleet) as accounts:
            accounts.put(app_account("late", (TYPE,), password := machine_password()))
        with arena.client() as late:
            late.log_in(names.app_client("late"), password)
            late.subscribe(f"iot-2/type/{TYPE}/id/+/evt/#")
            heard = []
            with contextlib.suppress(TimeoutError):  # events of honest devices, too
                while len(heard) < 10 and (got := late.read_packet(PATIENCE_S)) is not None:
                    heard.append(got[0] & 1)
    listened = len(heard) == 10  # a retained message would have been the first of them
    blocked = (
        "disconnected, nothing was retained" if listened and not kept and not any(heard) else ""
    )
    return Result(
        arena.logged(user), blocked, None, time.time() - began, {"honest": notice, "kept": kept}
    )


def is_own(events: list[bytes]) -> bool:
    """Return whether a last will of its own came."""
    return any(b"/id/WILL/evt/offline/" in each for each in events)


@attack("will abuse", "a last will may go where its client may publish")
def will_abuse(arena: Arena) -> Result:
    """Let the broker send last wills to another device, to all, and a thousand of one's own."""
    password, _ = arena.add_device("WILL"), arena.add_device("TARGET")
    user = names.device_client(TYPE, "WILL")
    targets = [
        topic("TARGET", "cmd", "set_relay"),
        topic("TARGET", "cmd", "set_relay", "json"),
        topic("TARGET", "cmd", "wake"),
        topic("TARGET", "evt", "offline", "json"),
        topic("WILL", "cmd", "set_relay"),
        "$CONTROL/dynamic-security/v1",
    ]
    wills = [(each, b'{"commands":[]}', False) for each in targets]
    own = (topic("WILL", "evt", "offline", "json"), b"x" * 1500, False)
    began = time.time()
    heard, events = [], []
    with registry.opened(arena.fleet) as accounts:
        accounts.put(app_account("watch", (TYPE,), watching := machine_password()))
    with arena.honest() as notice, arena.client("TARGET") as target, arena.client() as watch:
        target.subscribe(f"{names.topic_base(TYPE, 'TARGET')}/cmd/#")
        watch.log_in(names.app_client("watch"), watching)
        for device in ("WILL", "TARGET"):
            watch.subscribe(f"{names.topic_base(TYPE, device)}/evt/#")
        for will in [*wills, *[own] * (200 if arena.whole else 5)]:
            with arena.client() as client:
                client.log_in(user, password, will=will)
        with contextlib.suppress(TimeoutError):
            while (got := target.read_packet(0.5)) is not None:
                heard.append(got)
        with contextlib.suppress(TimeoutError):
            while (got := watch.read_packet(0.5 if is_own(events) else PATIENCE_S)) is not None:
                events.append(got[1])
    forged = [each for each in events if b"/id/TARGET/" in each]
    own_came = is_own(events)  # so wills are sent
    blocked = "the broker sent none of them" if own_came and not heard and not forged else ""
    figures = {"honest": notice, "heard": len(heard) + len(forged)}
    return Result(arena.logged(user), blocked, None, time.time() - began, figures)


@attack("many subscriptions", "a device may subscribe to one filter, its own")
def many_subscriptions(arena: Arena) -> Result:
    """Subscribe to many filters, each within what the device may be sent."""
    arena.add_device("MANY")
    base = f"{names.topic_base(TYPE, 'MANY')}/cmd"
    began = time.time()
    with arena.honest() as notice, arena.client("MANY") as client:
        filters = [f"{base}/c{number}/#" for number in range(1000 if arena.whole else 50)]
        granted = [each for each in filters if client.subscribe(each)[-1:] != [REFUSED]]
        own = client.subscribe(f"{base}/#")
    blocked = "all but its own refused" if not granted and own[-1:] != [REFUSED] else ""
    return Result(_UNSEEN, blocked, None, time.time() - began, {"honest": notice})
