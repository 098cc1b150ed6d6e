"""Guessing at a served fleet, in namespaces of its own: started by test_bans_live.py.

Prints what happened as one line of JSON. `bans_lab.py FOLDER`.
"""

import json
import queue
import subprocess
import sys
import time
from pathlib import Path

from namespace_kit import HERE, Peer
from process_kit import PATIENCE_S
from warden_host import names
from warden_host.bans import ban_log
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.broker import LOG
from warden_host.cli import main
from warden_host.devices import setup
from warden_host.engine.events import FleetEvent
from warden_host.fleet import fleet
from warden_host.protocol import policy
from warden_host.service import address_watch
from warden_host.service.run import serving
from warden_host.store.store import Device, Store

ATTACKER, HOME, LATER = "10.77.1.1", "10.77.1.2", "10.77.1.3"
MANY = [f"10.77.2.{number}" for number in range(1, 31)]
PORT = 28883
QUIET_S = 1.0  # an address that is blocked gets no answer at all, however long it waits
FAIL2BAN = "[Definition]\nloglevel = INFO\nlogtarget = {0}/log\nsyslogsocket = auto\nsocket = {0}/s\npidfile = {0}/p\ndbfile = None\ndbpurgeage = 1d\n"


class Lab:
    def __init__(self, folder: Path) -> None:
        broker = fleet.BrokerSettings(
            host=HERE, listen=HERE, port=PORT, device_port=PORT, admin_port=PORT - 1
        )
        self.fleet = setup.new_fleet(folder / "fleet", fleet.Settings(broker, ()))
        self.password = device_password()
        with Store(self.fleet.database) as store:
            store.add_device(Device("D1", "relay", "UNIX", "sealed", policy.record()))
        with registry.opened(self.fleet) as accounts:
            accounts.put(device_account("relay", "D1", self.password))
        self.peer = Peer([ATTACKER, HOME, LATER, *MANY])
        self.news: queue.Queue[FleetEvent] = queue.Queue()
        self.seen: list[str] = []
        guesser = Path(__file__).parents[1] / "guesser_kit.py"
        ca = str(self.fleet.keys / "ca.crt")
        command = [sys.executable, str(guesser), HERE, str(PORT), ca]
        self.guesser = subprocess.Popen(
            self.peer.inside(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def log_in(self, address: str, password: str = "wrong", **more) -> str | int:
        name = "d:relay:D1"
        order = {"from": address, "client": name, "user": name, "password": password} | more
        self.guesser.stdin.write(json.dumps(order) + "\n")
        self.guesser.stdin.flush()
        return json.loads(self.guesser.stdout.readline())

    def wait_event(self, code: str, address: str) -> float:
        """Seconds until a notice with this code names the address."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            event = self.news.get(timeout=PATIENCE_S)
            self.seen.append(f"{event.code} {event.text}")
            if event.code == code and event.text.startswith(address + " "):
                return time.monotonic() - began
        raise TimeoutError(code)

    def wait_guard(self) -> None:
        """Wait until the service's own connections are there.

        mosquitto 2.0.11 writes no address beside a refusal: a guess could be taken for one of a
        connection that is not logged in yet, and is counted against this host's address then.
        """
        log, end = self.fleet.broker / LOG, time.monotonic() + PATIENCE_S
        while f" as {names.GUARD} " not in log.read_text():
            if time.monotonic() > end:
                raise TimeoutError(log.read_text()[-3000:])
            time.sleep(0.1)

    def blocked(self, address: str) -> bool:
        return self.log_in(address, wait=QUIET_S) == "silent"

    def warden(self, *words: str) -> int:
        return main.run(["--fleet", str(self.fleet.root), *words])

    def close(self) -> None:
        self.guesser.stdin.close()
        self.guesser.wait()
        self.peer.close()


def guess(lab: Lab) -> dict:
    found: dict = {}
    with serving(lab.fleet, lab.news.put):
        lab.wait_guard()
        found["guesses"] = [lab.log_in(ATTACKER) for _ in range(3)]
        found["banned_s"] = lab.wait_event("address-banned", ATTACKER)
        found["blocked"] = lab.blocked(ATTACKER)
        found["right_password_blocked"] = lab.log_in(ATTACKER, lab.password, wait=QUIET_S)
        # An attacker and an honest device behind one address.
        found["home"] = lab.log_in(HOME, lab.password)
        found["home_guesses"] = [lab.log_in(HOME) for _ in range(4)]
        lab.wait_event("address-slowed", HOME)
        found["home_again"] = lab.log_in(HOME, lab.password)
        many = [lab.log_in(address) for address in MANY[:20]]
        lab.wait_event("address-banned", MANY[19])
        found["many"] = many
        found["one_of_many_blocked"] = lab.blocked(MANY[19])
        found["first_of_many_open"] = lab.log_in(MANY[0], lab.password)
        found["lift"] = lab.warden("bans", "lift", ATTACKER)
        found["after_lift"] = lab.log_in(ATTACKER, lab.password)
        found["add"] = lab.warden("bans", "add", LATER)
        found["added_blocked"] = lab.blocked(LATER)
        lab.warden("bans", "block", "10.77.2.7", "--json")
        lab.warden("bans", "allow", f"{HOME}/32", "--json")
        lab.warden("bans", "activate", "block", "--json")
        found["listed_blocked"] = lab.blocked(MANY[6])
        lab.warden("bans", "activate", "allow", "--yes", "--json")
        found["only_allowed"] = [lab.log_in(HOME, lab.password), lab.blocked(MANY[6])]
        lab.warden("bans", "activate", "none", "--json")
        found["none_active"] = lab.log_in(MANY[6], lab.password)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    with serving(lab.fleet, lab.news.put):
        found["after_restart_blocked"] = lab.blocked(LATER)
        found["list"] = lab.warden("bans", "list", "--json")
    found["log"] = ban_log.read(lab.fleet)
    return found


if __name__ == "__main__":
    address_watch.CHECK_S = 3600.0  # nor does the service ask its own address meanwhile
    lab = Lab(Path(sys.argv[1]))
    try:
        result = guess(lab)
    except BaseException:
        print("\n".join(lab.seen), file=sys.stderr)
        raise
    finally:
        lab.close()
    print(json.dumps(result))
