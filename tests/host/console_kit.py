"""A fleet with something on each page of the console, made without a device or a broker."""

import json
import time
from pathlib import Path

from host_kit import new_fleet
from warden_host.fleet.fleet import Fleet
from warden_host.otp.notify.delivery import Message
from warden_host.protocol import policy
from warden_host.service.authority import Authority
from warden_host.store.bans import Ban
from warden_host.store.operators import Operator
from warden_host.store.reactions import Reaction
from warden_host.store.store import Device, Pair, Store
from warden_host.store.web_logins import WebLogin
from web_kit import HASH, SECRET

MARKUP = "<img src=x onerror=alert(1)>'\"&\u202e"
ROLES = {"alice": "own", "bob": "look", "carol": "command", "uma": "update"}
DEVICE, PLAIN = "front-door", "back-door"
ADDRESS = "owner@example.org"
CODE, DURESS = "493817", "605128"
K, UID = bytes(range(32)), bytes(range(64, 96))
CEK = b"content key 16 b"
# What no page shows to anyone.
SECRETS = (K.hex(), UID.hex(), CEK.hex(), CEK.decode(), SECRET.hex(), HASH)
_MAIL = f"""
[otp.mail]
host = "127.0.0.1"
port = 9
security = "none"
from = "{ADDRESS}"
[alarms]
mail = ["{ADDRESS}"]
"""


def fill(folder: Path, more: int = 0, events: int = 120) -> Fleet:
    """Make the fleet. more: devices beside the two that have a history. events: of the first."""
    made = new_fleet(folder)
    path = made.root / "warden.toml"
    path.write_text(path.read_text() + _MAIL)
    made = Fleet(made.root)
    pairs = (Pair("home", K, UID, ("set_relay",)),)
    gate = policy.record(otp=policy.otp(duress=True))
    with Store(made.database) as store:
        for number, (name, role) in enumerate(ROLES.items()):
            store.put_operator(Operator(name, 5000 + number, name, (role,)))
            store.put_web_login(WebLogin(name, HASH, SECRET))
        store.add_device(Device(DEVICE, "lock", "UNIX", "sealed", gate, pairs=pairs))
        plain = policy.record(mode="plain")
        store.add_device(Device(PLAIN, "lock", "UNIX", "plain", plain, pairs=pairs))
        for number in range(more):
            one = f"sensor-{number:04}"
            store.add_device(Device(one, "sensor", "UNIX", "sealed", policy.record()))
        for number in range(events):
            body = {"c": 20 + number / 10, "deep": {MARKUP: number}, "text": MARKUP}
            store.add_event(DEVICE, "home", "temperature", json.dumps(body))
        for code in ("replayed", "tampered", MARKUP):
            store.add_incident(DEVICE, "device", code, MARKUP, 3, "home")
        store.add_to_group("ground-floor", [DEVICE, PLAIN])
        release = store.reserve_sequence("lock-1.4.0", "lock", "1.4.0", None, CEK)
        store.add_rollout(release.name, 1, _plan(), {DEVICE: 0, PLAIN: 1})
        store.set_rollout(1, "stopped", MARKUP)
        now = time.time()
        store.put_ban(Ban("203.0.113.7/32", "ban", now, None, "watch", MARKUP, 3))
        with store.transaction():
            store.set_reaction(PLAIN, Reaction("quarantine", "device-cloned", MARKUP, now))
    return made


def _plan() -> dict:
    return {"waves": [50, 100], "max_failures": 10, "in_percent": True, "at_once": 20}


def put_code(authority: Authority, left: float = 300.0, device: str = DEVICE) -> None:
    """Let a code wait where owners without mail read it."""
    expires = time.monotonic() + left
    message = Message(device, "code", "console", "", 300, expires, CODE, DURESS)
    authority.codes.console.send(message)
