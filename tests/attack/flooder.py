"""A process that floods the broker under one account: one order on standard input, one result.

The order, a line of JSON: fleet, device, password, kind, plain, seconds (at most), retry_s (how
long it tries to log in again), fresh (of payloads()), count (packets at most, 0 for no limit),
user (of an account that is no device's, or ""). The result: sent (packets), rate (a second), cut
(unix seconds at which the broker ended the connection, or null), refused (whether each later
log-in was refused).
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from attack.arena import start_session
from attack.raw_client import RawClient, publish_packet, subscribe_packet
from engine_kit import SEALED, K
from host_kit import PeerDevice
from warden_host import names
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.protocol import policy

_RETRY_S = 0.25  # between the log-ins of one that was cut off
_LARGEST = 1900  # bytes of a payload within the broker's smallest limit


def payloads(kind: str, peer: PeerDevice, fresh: int) -> tuple[str, list[bytes]]:
    """Return (event, payloads) of a kind of flood; they are sent again and again.

    fresh: messages of a session that are sealed before the flood begins.
    """
    match kind:
        case "garbage":
            return "x", [os.urandom(64) for _ in range(200)]
        case "hello":
            return "hello", [peer.hello() for _ in range(fresh)]
        case "ready":
            return "ready", [peer.ready() for _ in range(fresh)]
        case "deep CBOR":
            return "x", [b"\x81" * _LARGEST, b"\xa1\x00" * (_LARGEST // 2)]
        case "large JSON":
            text = b'{"event":"x","deviceId":"%s","body":%s}'
            body = b"[" + b'{"":1.5},' * 170 + b"1]"
            return "x", [text % (peer.device.encode(), body), b"[" * _LARGEST]
        case "key IDs":
            return "x", [peer.seal("x", b"\xa0", headers={4: os.urandom(8)}) for _ in range(fresh)]
        case "incidents":
            bodies = ({"code": f"c{n % 250}", "n": 1, "at": ""} for n in itertools.count())
            return "incident", [
                peer.seal("incident", [0, None, next(bodies)]) for _ in range(fresh)
            ]
        case "events":
            return "x", [peer.seal("x", [0, None, {"n": n}]) for n in range(fresh)]
    raise ValueError(kind)


def unseen_packets(kind: str, peer: PeerDevice) -> list[bytes]:
    """Return the packets of a flood that the broker drops: no application sees it."""
    other = peer.topic("evt", "x").replace(peer.device, "OTHER")
    return {
        "denied topics": [publish_packet(other, os.urandom(64)) for _ in range(200)],
        "pings": [b"\xc0\x00"],
        "commands": [
            publish_packet(other.replace("/evt/", "/cmd/"), os.urandom(64)) for _ in range(200)
        ],
        "subscriptions": [subscribe_packet(f"{other}/{number}") for number in range(200)],
    }.get(kind, [])


UNSEEN = ("denied topics", "pings", "subscriptions")
KINDS = ("garbage", "hello", "ready", "deep CBOR", "large JSON", "key IDs", "incidents", "events")
WITH_SESSION = ("ready", "key IDs", "incidents", "events")


def main() -> None:
    order = json.loads(sys.stdin.readline())
    fleet = Fleet(Path(order["fleet"]))
    device = order["device"]
    peer = PeerDevice(K[AUTHORITY], policy.policy_hash(SEALED.policy), device=device)
    user = order.get("user") or names.device_client("relay", device)

    def connect() -> tuple[RawClient, int]:
        client = RawClient(fleet.keys / "ca.crt", fleet.settings.broker.port)
        return client, client.log_in(user, order["password"])

    client, code = connect()
    if code:
        raise ConnectionError(f"the log-in was refused ({code})")
    if order["kind"] in WITH_SESSION:
        start_session(client, peer)
    packets = unseen_packets(order["kind"], peer)
    if not packets:
        event, made = payloads(order["kind"], peer, order["fresh"])
        topic = peer.topic("evt", event)
        if order["plain"]:
            topic = topic.replace("/fmt/cose", "/fmt/json")
        packets = [publish_packet(topic, each) for each in made]
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    began = time.time()
    end = began + order["seconds"]

    def until() -> Iterator[bytes]:
        most = order["count"] or sys.maxsize
        for number, each in enumerate(itertools.cycle(packets)):
            if number >= most or (not number % 64 and time.time() > end):
                return
            yield each

    sent = client.blast(until())
    took = time.time() - began
    cut = None if client.ping() else time.time()
    client.close()
    refused = True
    tries = 0
    while cut is not None and refused and (not tries or time.time() < began + order["retry_s"]):
        again, code = connect()
        again.close()
        tries += 1
        refused = code != 0
        time.sleep(_RETRY_S)
    result = {"sent": sent, "rate": sent / took, "cut": cut, "refused": refused and tries > 0}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
