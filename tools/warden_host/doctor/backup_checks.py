"""Checks of a backup: the file, what opens it, and what it holds."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from warden_host.backup import age
from warden_host.backup.backup import Checked
from warden_host.doctor.facts import DAY_S
from warden_host.doctor.fleet_checks import BACKUP_DAYS
from warden_host.doctor.registry import Finding, check, serious, worth
from warden_host.store.store import Store

_AGAIN = "`warden backup make FILE --to age1…`"


@dataclass(frozen=True)
class BackupFacts:
    """A backup that was read whole, or with None only looked at from outside.

    root, store: of the fleet that it is compared with, if there is one. now: unix seconds.
    """

    path: Path
    content: Checked | None
    now: float
    root: Path | None = None
    store: Store | None = None


@check("backup", "whole", "whether all of it can be read")
def whole(facts: BackupFacts) -> Iterator[Finding]:
    if facts.content is None:
        yield worth(
            "its content was not read: a backup that was never read is a hope",
            f"`warden doctor --backup {facts.path} --key-file FILE`, where the key is",
        )


@check("backup", "place", "whether it lies apart from the fleet")
def place(facts: BackupFacts) -> Iterator[Finding]:
    if facts.root is not None and facts.path.stat().st_dev == facts.root.stat().st_dev:
        yield worth(
            "it lies on the fleet's own disk, and is lost with it",
            f"copy it to another machine, such as by `scp {facts.path} HOST:`",
        )


@check("backup", "permissions", "who can replace it")
def permissions(facts: BackupFacts) -> Iterator[Finding]:
    mode = stat.S_IMODE(facts.path.stat().st_mode)
    if mode & 0o022:
        yield serious(
            f"others can replace it (mode {mode:04o}): all who know its recipient can make one",
            f"chmod 600 {facts.path}, and check it again",
        )


@check("backup", "passphrase", "how dear a guess of its passphrase is")
def passphrase(facts: BackupFacts) -> Iterator[Finding]:
    with facts.path.open("rb") as file:
        work = age.passphrase_work(file)
    if work is not None and work < age.WORK:
        yield serious(
            f"a guess of its passphrase costs 2^{work} rounds, and Warden's backups 2^{age.WORK}",
            _AGAIN,
        )


@check("backup", "age", "when it was made")
def made(facts: BackupFacts) -> Iterator[Finding]:
    if facts.content is None:
        return
    days = int((facts.now - facts.content.about["made"]) // DAY_S)
    if days >= BACKUP_DAYS:
        yield worth(f"it is {days} days old", _AGAIN)


@check("backup", "current", "whether it has the fleet's present secrets")
def current(facts: BackupFacts) -> Iterator[Finding]:
    if facts.content is None or facts.store is None:
        return
    if facts.content.about["number"] < facts.store.backup_state().done:
        yield worth("it is not the fleet's last backup", "keep the last one, and check that")
    if facts.content.devices < len(facts.store.names()):
        yield serious(
            f"it has {facts.content.devices} devices, and the fleet {len(facts.store.names())}",
            _AGAIN,
        )
