"""Guessing from many addresses, in network namespaces of its own; guessing.py starts it.

`guessing_lab.py FOLDER ADDRESSES`: prints what happened as a line of JSON. The attackers are
behind a cable, honest devices on the broker's host; each attacker goes on until it gets no answer.
"""

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import tomli_w
from attack.arena import Arena
from host_kit import DEVICE
from namespace_kit import HERE, Peer
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.store.store import Store

_GUESSERS = 6
_MOST = 12  # guesses of one address, if nothing stops it
_QUIET_S = 2.0  # a broker that may answer does so in less
_PATIENCE_S = 60.0


class Guessers:
    """Programs on the far side of the cable, each with some of the addresses."""

    def __init__(self, peer: Peer, arena: Arena) -> None:
        program = Path(__file__).parents[1] / "host" / "guesser_kit.py"
        command = [sys.executable, str(program), HERE, str(arena.port), str(arena.ca), "127.0.0.1"]
        self._guard = threading.Lock()
        self.answered: dict[str, int] = {}
        self.silent: dict[str, float] = {}
        self._programs = [
            subprocess.Popen(
                peer.inside(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(_GUESSERS)
        ]

    def guess(self, addresses: list[str]) -> None:
        """Guess from all addresses, until each gets no answer or has had its most."""
        shares = [addresses[number::_GUESSERS] for number in range(_GUESSERS)]
        threads = [
            threading.Thread(target=self._share, args=pair)
            for pair in zip(self._programs, shares, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _share(self, program: subprocess.Popen, addresses: list[str]) -> None:
        for _ in range(_MOST):
            for address in addresses:
                if address in self.silent:
                    continue
                answer = self.ask(program, address)
                with self._guard:
                    if answer == 5:
                        self.answered[address] = self.answered.get(address, 0) + 1
                    else:
                        self.silent[address] = time.time()

    def ask(self, program: subprocess.Popen, address: str) -> str | int:
        name = "d:relay:" + DEVICE
        order = {"from": address, "client": name, "user": name, "password": "x", "wait": _QUIET_S}
        program.stdin.write(json.dumps(order) + "\n")
        program.stdin.flush()
        return json.loads(program.stdout.readline())

    def close(self) -> None:
        for program in self._programs:
            program.stdin.close()
            program.wait()


def for_all(arena: Arena) -> None:
    """Let the broker listen on the cable, too."""
    root = arena.fleet.root
    broker = arena.fleet.document["broker"] | {"listen": "0.0.0.0"}
    (root / CONFIG).write_bytes(tomli_w.dumps(arena.fleet.document | {"broker": broker}).encode())
    arena.fleet = Fleet(root)


def main(folder: Path, count: int) -> dict:
    addresses = [f"10.77.{1 + n // 250}.{1 + n % 250}" for n in range(count)]
    with contextlib.ExitStack() as stack:
        peer = Peer(addresses)
        stack.callback(peer.close)
        arena = Arena(folder, whole=True)
        for_all(arena)
        stack.enter_context(arena)
        guessers = Guessers(peer, arena)
        stack.callback(guessers.close)
        with arena.honest() as notice:
            began = time.time()
            guessers.guess(addresses)
            ended = time.time()
            code, seen_s = arena.wait_seen(
                lambda one: one.code == "address-banned", began, _PATIENCE_S
            )
        with Store(arena.fleet.database) as store:
            bans = store.bans(time.time())
        first = min((ban.since for ban in bans), default=None)
        return {
            "seen": code,
            "seen_s": seen_s,
            "banned": len(bans),
            "first_banned_s": None if first is None else max(0.0, first - began),
            "all_silent_s": ended - began,
            "silent": len(guessers.silent),
            "answered": sum(guessers.answered.values()),
            "most_answered": max(guessers.answered.values(), default=0),
            "quiet": notice.quiet,
            "during": notice.during,
            "lost": notice.lost,
            "reconnected": notice.reconnected,
        }


if __name__ == "__main__":
    result = main(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(result))
