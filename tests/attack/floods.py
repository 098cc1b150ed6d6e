"""Floods: one account sends one kind of message as fast as the broker takes it."""

import contextlib
import io
import json
import math
import subprocess
import time

from attack.arena import Arena, child
from attack.flooder import KINDS, UNSEEN
from attack.registry import Result, attack
from warden_host import names
from warden_host.cli import main

SECONDS = 20.0  # the flooder goes on for so long, and logs in again and again
_SHORT = ("garbage", "incidents", "denied topics")


def flood(arena: Arena, kind: str, user: str = "") -> Result:
    """user: the account that floods, "" for a device's own."""
    device = "F-" + kind.replace(" ", "-")
    plain = kind == "large JSON"
    password = arena.add_app(user) if user else arena.add_device(device, plain)
    order = {
        "fleet": str(arena.fleet.root),
        "device": device,
        "password": password,
        "kind": kind,
        "plain": plain,
        "seconds": 60,
        "retry_s": SECONDS if arena.whole else 0,
        "fresh": 6000 if arena.whole else 1500,
        "count": 0,
        "user": user,
    }
    victim = f"V-{device}"
    arena.add_device(victim)
    with child("attack.flooder", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(order), file=process.stdin, flush=True)
        json.loads(process.stdout.readline())
        with arena.honest() as notice:
            began = time.time()
            print("go", file=process.stdin, flush=True)
            revoke_s = revoke(arena, victim) if arena.whole else None
            done = json.loads(process.stdout.readline())
    seen, seen_s = arena.wait_seen(
        lambda event: (
            event.code == ("account-flood" if user else "device-flood")
            and (user in event.text if user else event.device == device)
        ),
        began,
    )
    blocked_s = None if done["cut"] is None else done["cut"] - began
    return Result(
        seen,
        "cut off at the broker" if done["refused"] else "",
        seen_s,
        blocked_s,
        {"rate": round(done["rate"]), "sent": done["sent"], "honest": notice}
        | ({} if revoke_s is None else {"revoke": f"{revoke_s:.2f} s"}),
        cut_s=math.inf if blocked_s is None else blocked_s,
        revoke_s=revoke_s,
    )


def revoke(arena: Arena, device: str) -> float:
    """Cut another device off in the midst of the flood; return the seconds, inf if it fails."""
    began = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        code = main.run(["--fleet", str(arena.fleet.root), "revoke", device, "--yes"])
    return time.monotonic() - began if code == 0 else math.inf


for _kind in (*KINDS, *UNSEEN):
    attack(
        f"flood: {_kind}",
        "found by its rate, slowed, and cut off at the broker",
        short=_kind in _SHORT,
    )(lambda arena, kind=_kind: flood(arena, kind))


@attack(
    "flood: an application",
    "an application's account sends commands to nobody; found by its bytes, and cut off",
    short=False,
)
def application(arena: Arena) -> Result:
    return flood(arena, "commands", names.app_client("lights"))
