"""The files that a board has: which modules of the sources go into which, by one table.

A look-up in a board's filesystem takes 20 to 30 ms and each file at least one block of 4 KB, so
modules that are loaded together lie in one file, a group. The table names groups from the top
down; a module belongs to the first one with a matching pattern (`fnmatch`), and one that no
pattern matches is a group of its own, and its file has its last name (a driver's: `hal/` and its
last name). A module that is new in a package therefore goes where its package goes, without a
change here.

core    what every start loads and what stays: the package itself, `warden/__init__.mpy`
start   what only a start needs: let go of when the agent runs, so nothing that outlives the start
may be defined in it others  a feature each, loaded when it is used

Rules for a new line:

- Modules with viper or native code stay apart from others: mpy-cross ties their file to one kind
  of processor.
- Modules that are unloaded at different times don't share a file, unless the group names the
  member that ends it.
- A driver in `hal` stays a file of its own: board.py finds it by that name.
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

ROOT = "warden"
CORE = "core"
CORE_PATH = f"{ROOT}/__init__.py"


class Group(NamedTuple):
    """A file of the package on a board."""

    name: str
    patterns: (
        str  # of the names of modules below warden, separated by blanks; "." is the package itself
    )
    # The member whose unloading unloads the file; that of others does nothing. Empty: any.
    ends_with: str = ""


GROUPS = (
    Group("failures", "net.failures agent.link_failure", "agent.link_failure"),
    Group("start", "agent.build policy.policy board.load", "agent.build"),
    Group("seldom", "agent.waits wire.cbor_reader"),
    Group("gate", "gate.* policy.otp board.panel", "gate.gate"),
    Group("plain", "session.plain"),
    Group("recovery", "agent.recovery"),
    Group("erase", "vault.wipe"),
    Group("rotation", "rotation.*"),
    Group("provisioning", "provisioning.*"),
    Group(
        "manifest", "ota.manifest_verify wire.suit wire.suit_commands wire.suit_labels wire.cose"
    ),
    Group("ota", "ota.boot ota.slots ota.romfs ota.service ota.update wire.suit_plan"),
    Group("p256_native", "crypto._p256_vm crypto._p256_native"),
    Group("p256", "crypto.p256 crypto._p256_curve crypto._p256_table"),
    Group(
        CORE,
        ". errors agent.* net.* session.* vault"
        " wire.names wire.cbor wire.envelope wire.mqtt wire.x509"
        " crypto.ccm crypto.ct crypto.kdf crypto.rand hal.system hal.clock_rtc",
        "-",
    ),
)

# Modules that applications and those who provision a board import: their names are there in the
# built form, too.
PUBLIC = ("warden.errors", "warden.vault", "warden.provisioning.provision")
# Modules whose public names and arguments applications use: they keep them.
API = (
    "warden",
    "warden.errors",
    "warden.vault",
    "warden.agent.device",
    "warden.agent.agent",
    "warden.session.command",
    "warden.ota.boot",
)
# Files that every start loads: their names come first where there are not enough for all.
EVERY_START = (CORE_PATH, f"{ROOT}/start.py")


def _below(module: str) -> str:
    return module.removeprefix(ROOT).removeprefix(".") or "."


def matches(group: Group, module: str) -> bool:
    """Return whether a pattern of the group matches a module, such as warden.ota.boot."""
    return any(fnmatchcase(_below(module), pattern) for pattern in group.patterns.split())


def group_of(module: str) -> Group:
    """Return the group of a module: the first one of the table that matches."""
    name = _below(module)
    for group in GROUPS:
        if matches(group, module):
            return group
    # A folder takes two blocks and a look-up more: only drivers keep theirs.
    return Group(name if name.startswith("hal.") else name.split(".")[-1], name)


def file_name(group: Group) -> str:
    """Return a group's name as a module: the core is the package itself."""
    return ROOT if group.name == CORE else f"{ROOT}.{group.name}"


def file_path(group: Group) -> str:
    """Return the path of a group's file below lib, with the ending of a source."""
    if group.name == CORE:
        return CORE_PATH
    return file_name(group).replace(".", "/") + ".py"
