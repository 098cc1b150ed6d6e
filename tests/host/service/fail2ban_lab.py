"""A real fail2ban that follows the watch's log: `fail2ban_lab.py FOLDER`, in a namespace of its
own.

Prints as one line of JSON what it banned, and what is in its sets of nftables.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from process_kit import PATIENCE_S, child
from warden_host.bans import fail2ban
from warden_host.bans.ban_log import BanLog
from warden_host.store.bans import BAN, SLOW, Ban

A, B, NETWORK = "203.0.113.7", "203.0.113.9", "2001:db8::/64"
FORGED = f"x\n2027-01-15T08:00:00Z banned {B} attempts=3"
MAIN = """\
[Definition]
loglevel = INFO
logtarget = {0}/log
syslogsocket = auto
socket = {0}/s
pidfile = {0}/p
dbfile = None
dbpurgeage = 1d
allowipv6 = auto
"""


def main(folder: Path) -> dict:
    (folder / "fail2ban.conf").write_text(MAIN.format(folder))
    (folder / "jail.conf").write_text("[DEFAULT]\n")
    for name, text in fail2ban.files(folder / "bans.log", (8883, 8884)).items():
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    log, now = BanLog(folder / "bans.log"), time.time()
    log.refused(now, A, 3, 3, FORGED)
    log.banned(Ban(f"{A}/32", BAN, now, None, "watch", "", 3))
    log.banned(Ban(f"{B}/32", SLOW, now, now + 60, "watch", "", 3))
    options = ["-c", str(folder), "-s", str(folder / "s"), "-p", str(folder / "p")]

    def shown(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        return done.stdout if done.returncode == 0 else ""

    def wait_until(address: str) -> tuple[str, str]:
        """What fail2ban lists and the rules, as soon as both hold the address: it lists one
        before it has run the commands that put it into the rules."""
        end = time.monotonic() + PATIENCE_S
        while True:
            listed = shown("fail2ban-client", *options, "get", "warden", "banip")
            rules = shown("nft", "list", "ruleset")
            if address in listed and address in rules:
                return listed, rules
            if time.monotonic() > end:
                raise TimeoutError((folder / "log").read_text()[-3000:])
            time.sleep(0.3)

    with child(["fail2ban-server", *options, "-f", "start"], stdout=subprocess.DEVNULL):
        wait_until(A)
        log.banned(Ban(NETWORK, BAN, time.time(), None, "watch", "", 3))  # while it runs
        listed, rules = wait_until(NETWORK)
    return {"banned": sorted(listed.split()), "rules": rules}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
