"""`make attack`: run every attack against a real broker and authority, and print the results.

    python -m attack.run [WORD…]     attacks whose names hold one of these words; all without

Exit code 1 where an attack was not seen or not blocked, or an honest device lost anything.
"""

import sys
import tempfile
import time
from pathlib import Path

from attack.arena import Arena, Notice, percentile
from attack.registry import Attack, Result, load

_ROW = "{:<26} {:<20} {:>7}  {:<34} {:>7}  {:>5} {:>9} {:>7}  {}"
RATIO = 2.0  # of the honest devices' latency, at most


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
    if isinstance(notice, Notice):
        if notice.lost:
            found.append(f"honest devices lost {notice.lost}")
        if notice.reconnected:
            found.append(f"honest devices reconnected {notice.reconnected} times")
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
        for text in failures(result):
            bad += 1
            print(f"    {text}")
    print(f"{bad} failures" if bad else "every attack was seen and blocked")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
