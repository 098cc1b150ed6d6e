"""`make attack`: run every attack against a real broker and authority, and print the results.

    python -m attack.run [WORD…]     attacks whose names hold one of these words; all without

Exit code 1 where an attack was not seen or not blocked, an honest device lost anything, or a
target was missed: see excesses().
"""

import sys
import tempfile
import time
from pathlib import Path

from attack.arena import Arena, Notice, percentile
from attack.registry import Attack, Result, load

_ROW = "{:<26} {:<20} {:>7}  {:<34} {:>7}  {:>5} {:>9} {:>7}  {}"
# At most: the honest devices' latency over the quiet one, until the cut-off, and a revocation.
RATIO, CUT_S, REVOKE_S = 2.0, 5.0, 2.0
FEWEST = 100  # commands behind a 99th percentile


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def failures(result: Result) -> list[str]:
    """Return what is wrong with a result."""
    found = []
    if not result.seen:
        found.append("not seen")
    if not result.blocked:
        found.append("not blocked")
    notice = result.notes.get("honest")
    if not isinstance(notice, Notice) or not notice.quiet or not notice.during:
        return [*found, "no honest device was looked at"]
    if notice.lost:
        found.append(f"honest devices lost {notice.lost}")
    if notice.reconnected:
        found.append(f"honest devices reconnected {notice.reconnected} times")
    return found


def excesses(result: Result) -> list[str]:
    """Return which of the targets of a whole run are missed; other load can be the cause."""
    found = []
    notice = result.notes.get("honest")
    if isinstance(notice, Notice):
        if min(len(notice.quiet), len(notice.during)) < FEWEST:
            found.append(f"too few commands for a 99th percentile, below {FEWEST}")
        elif notice.ratio > RATIO:
            found.append(f"honest devices' p99 is {notice.ratio:.2f} times the quiet one")
    if result.cut_s is not None and not result.cut_s <= CUT_S:
        found.append(f"cut off after {result.cut_s:.1f} s")
    if result.revoke_s is not None and not result.revoke_s <= REVOKE_S:
        found.append(f"`warden revoke` of another device took {result.revoke_s:.1f} s")
    return found


def print_row(attack: Attack, result: Result) -> None:
    notice = result.notes.get("honest")
    lost = p99 = ratio = "-"
    if isinstance(notice, Notice) and len(notice.during) > 1:
        lost = str(notice.lost)
        p99 = f"{percentile(notice.during) * 1e3:.1f} ms"
        ratio = f"{notice.ratio:.2f}"
    more = ", ".join(
        f"{name} {value}" for name, value in result.notes.items() if not isinstance(value, Notice)
    )
    print(
        _ROW.format(
            attack.name,
            result.seen or "NOT SEEN",
            seconds(result.seen_s),
            result.blocked or "NOT BLOCKED",
            seconds(result.blocked_s),
            lost,
            p99,
            ratio,
            more,
        ),
        flush=True,
    )


def main(words: list[str]) -> int:
    bad = 0
    print(
        _ROW.format(
            "attack", "seen as", "after", "blocked by", "after", "lost", "p99", "× quiet", ""
        )
    )
    for attack in load().values():
        if words and not any(word in attack.name for word in words):
            continue
        reason = attack.needs()
        if reason:
            print(f"{attack.name:<26} not run: {reason}")
            continue
        with tempfile.TemporaryDirectory() as folder, Arena(Path(folder), whole=True) as arena:
            began = time.monotonic()
            result = attack.run(arena)
            result.notes["took"] = f"{time.monotonic() - began:.0f} s"
        print_row(attack, result)
        for text in failures(result) + excesses(result):
            bad += 1
            print(f"    {text}")
    print(f"{bad} failures" if bad else "every attack was seen and blocked, within the targets")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
