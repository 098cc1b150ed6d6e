"""Put generated manifests to the host's tool and to the device's code on the unix port until the
time is over.

    python tests/fuzz/manifests.py SECONDS [SEED]

A round of manifests for each seed; a seed that is given is the first one, so that a finding can be
seen again. Ends with 1 at the first disagreement, and leaves it in
build/fuzz/finding-manifests-SEED.txt.
"""

import random
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "host")]

import manifest_kit as grammar  # noqa: E402  (the path must be set first)
from warden_host.fleet import device_tree  # noqa: E402

ROUND = 50


def check(micropython: str, seed: int) -> str:
    """Ask one round; return what the sides disagree on, "" for nothing."""
    cases = list(grammar.Generator(seed).cases(ROUND))
    answers = grammar.both.port(micropython, [case.question() for case in cases])
    return "".join(
        f"{case.envelope.hex()}\nfor {case.target}\nhost: {host}\ndevice: {device}\n"
        for case, host, device in grammar.disagreements(cases, answers)
    )


def main(seconds: float, seed: int) -> int:
    micropython = device_tree.micropython()
    end = time.monotonic() + seconds
    rounds = 0
    while rounds == 0 or time.monotonic() < end:
        found = check(micropython, seed)
        if found:
            path = TESTS.parent / "build" / "fuzz" / f"finding-manifests-{seed}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found)
            print(f"seed {seed}: the host and the device disagree, see {path}")
            return 1
        rounds, seed = rounds + 1, seed + 1
    print(f"manifests: {rounds * ROUND} judged alike, seeds up to {seed - 1}")
    return 0


if __name__ == "__main__":
    first = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    sys.exit(main(float(sys.argv[1]), first))
