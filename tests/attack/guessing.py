"""Guess passwords from many addresses: each is kept away by nftables, and devices notice nothing.

It runs in network namespaces of its own, since all addresses of one machine's loopback are its own
and never banned; tests/host/service/test_bans_live.py is its short form.
"""

import tempfile
from pathlib import Path

import namespace_kit
from attack.arena import Arena, Notice
from attack.registry import Result, attack

ADDRESSES = 200


@attack(
    "guessing, many addresses",
    "three refused log-ins ban an address; while many guess, the first one does",
    short=False,
    needs=lambda: namespace_kit.missing("nft"),
)
def guessing(_: Arena) -> Result:
    lab = Path(__file__).with_name("guessing_lab.py")
    with tempfile.TemporaryDirectory() as folder:
        found = namespace_kit.run_apart(lab, folder, str(ADDRESSES))
    notice = Notice(found["quiet"], found["during"], found["lost"], found["reconnected"])
    all_banned = found["banned"] == found["silent"] == ADDRESSES
    return Result(
        found["seen"],
        "nftables, until a person lifts it" if all_banned else "",
        found["seen_s"],
        found["first_banned_s"],
        {
            "honest": notice,
            "addresses": f"{found['banned']} banned of {ADDRESSES}",
            "all silent after": f"{found['all_silent_s']:.0f} s",
            "guesses answered": f"{found['answered']}, {found['most_answered']} of one address",
        },
    )
