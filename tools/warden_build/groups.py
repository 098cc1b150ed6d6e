"""The files that a board has: which modules of the sources go into which, by one table.

A look-up in a board's filesystem takes 20 to 30 ms and each file at least one block of 4 KB, so
modules that are loaded together lie in one file, a group. The table names groups from the top
down; a module belongs to the first one with a matching pattern (`fnmatch`), and one that no
pattern matches is a group of its own, and its file has its last name. A module that is new in a
package therefore goes where its package goes, without a change here.

core    what every start loads and what stays: the package itself, `warden/__init__.mpy`
start   what only a start needs: let go of when the agent runs, so nothing that outlives the start
        may be defined in it
others  a feature each, loaded when it is used; small ones together, where that costs no board a
        heap that matters (docs/device.md says what)

Rules for a new line:

- Modules with viper or native code stay apart from others: mpy-cross ties their file to one kind
  of processor.
- A file with a driver imports no module at its top that only some ports have, unless all of its
  drivers are of that port: `esp32`.
- Modules that are unloaded at different times don't share a file, unless the group names the
  member that ends it.
- The `make` of a driver has the driver's own name on a board, so drivers may share a file. All
  functions of a file share one namespace: one driver in use keeps all.
"""

import re
from collections.abc import Container
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
    Group("failures", "net.failures net.clock_steps agent.link_failure", "agent.link_failure"),
    # What opens a connection, and is let go of when it is open.
    Group("dial", "net.login net.umqtt_adapter net.dial net.chain wire.x509", "net.dial"),
    Group("start", "agent.build policy.policy board.load hal.reset_cause", "agent.build"),
    Group(
        "seldom",
        "agent.waits agent.leaving session.command_failure"
        " wire.cbor_reader policy.connection policy.incidents",
    ),
    Group("incidents", "agent.incident_report session.incident_log", "agent.incident_report"),
    Group("http", "net.http ota.https"),
    # For programs without the authority: no other module loads it.
    Group("standalone", "standalone"),
    # Small parts that only some fleets use: a file of its own would take 4 KB for each.
    Group("serial", "net.serial hal.network_serial"),
    Group(
        "links", "net.brokers net.bare net.pin_end token.ways wire.strict_json hal.clock_system"
    ),
    Group("telemetry", "agent.delivery session.outbox"),
    Group("sleep", "session.resume hal.retained"),
    Group("token_fetch", "token.fetch token.terms token.commands"),
    Group("token", "token.keeper token.choice"),
    Group("gate", "gate.* policy.otp board.panel", "gate.gate"),
    # What no start of a device at its place needs.
    Group("recovery", "agent.recovery board.app_failures board.development hal.console"),
    # What only some fleets use, and then throughout, with what others load for a moment.
    Group("plain", "session.plain crypto.rsa wire.sbv2"),
    Group("erase", "agent.tamper vault.wipe vault.rekey hal.erase_files"),
    # Each hand-shake needs it, and nothing of what makes a new key.
    Group("certificate", "net.client_certificate"),
    Group("new_certificate", "rotation.certificate crypto.p256_key"),
    Group(
        "manifest",
        "ota.manifest_verify ota.key_table rotation.pins_file"
        " wire.suit wire.suit_commands wire.suit_labels wire.cose",
    ),
    Group("rotation", "rotation.* agent.clock_order"),
    Group("provisioning", "provisioning.* board.check", "provisioning.provision"),
    # What opens the vault, and is let go of; with what most boards have for a root key.
    Group(
        "records",
        "vault.opening vault.records vault.secrets hal.rootkey_software hal.rootkey_chip",
    ),
    Group("download", "ota.download ota.reuse ota.inflate ota.payload", "ota.download"),
    Group("deferred", "ota.deferred"),  # alone: loaded where memory is short
    Group("image_verify", "ota.image_verify ota.boot_verify ota.firmware_verify ota.trial"),
    # With slots: what stays; what a mounted slot needs; what chooses one, and is let go of; and
    # what an update needs, which is loaded for it.
    Group("ota", "ota.result ota.standby board.slot_access"),
    Group("romfs", "ota.romfs"),
    Group("boot", "ota.boot board.slots"),
    Group("slots", "ota.slots hal.slots_file board.slot_driver"),
    Group("update", "ota.update ota.service wire.suit_plan"),
    Group("p256_native", "crypto._p256_vm crypto._p256_native"),
    # For firmware without a native emitter, and for what native code leaves to it.
    Group("interpreted", "crypto._xor_plain crypto._p256_plain"),
    Group("p256", "crypto.p256 crypto._p256_curve crypto._p256_table"),
    Group("panel", "hal.keypad* hal.display_*"),
    # What most boards have.
    Group(
        "usual",
        "hal.store_file hal.network_wifi hal.watchdog hal.watchdog_timer",
    ),
    Group("pin", "hal.rootkey_pin hal.ask_console crypto.pbkdf2"),
    Group("esp32_parts", "hal.store_nvs hal.rootkey_efuse"),
    Group("store_flash", "hal.store_flash hal.flash_scan"),
    Group("littlefs", "hal.littlefs hal.block_device hal.network_lan"),
    Group(
        CORE,
        ". errors agent.* net.* session.* vault vault.sealing"
        " wire.names wire.cbor wire.exact wire.envelope wire.mqtt"
        " crypto._xor crypto.ccm crypto.ct crypto.kdf crypto.rand"
        " hal.system hal.clock_rtc hal.store_steps",
        "-",
    ),
)
# Modules in hal that board.py finds by name: what is its own part of a name is what board.py says.
DRIVER = re.compile(r"(?:ask|display|keypad|network|rootkey|slots|store)_(\w+)")

# Modules that applications and those who provision a board import: their names are there in the
# built form, too.
PUBLIC = (
    "warden.errors",
    "warden.vault",
    "warden.provisioning.provision",
    "warden.provisioning.replace",
    "warden.standalone",
)
# What applications use, by modules: classes and functions, "*" for all that have no underscore.
# They keep their names, those of their arguments and those of their attributes.
API = {
    "warden": "*",
    "warden.errors": "*",
    "warden.vault": "Vault",
    "warden.vault.secrets": "Secrets",
    "warden.agent.device": "Device",
    "warden.session.command": "Refused",
    "warden.session.inbox": "Call",
    "warden.ota.boot": "*",
    "warden.ota.result": "*",
    "warden.provisioning.provision": "*",
    "warden.standalone": "*",
}
# Files that every start loads: their names come first where there are not enough for all.
EVERY_START = (CORE_PATH, f"{ROOT}/start.py")
# Files that every device keeps; and those that it lets go of again.
STAYING = tuple(f"{ROOT}/{name}.py" for name in ("__init__", "usual", "_xor_native"))
PASSING = tuple(
    f"{ROOT}/{name}.py"
    for name in ("start", "records", "dial", "boot", "slots", "incidents", "failures")
)


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
    # A folder would take two blocks and a look-up more.
    return Group(name.split(".")[-1], name)


def is_hardware(group: Group) -> bool:
    """Return whether a board that names none of its drivers does without the group's file."""
    return all(pattern.startswith(("hal.", "crypto.pbkdf2")) for pattern in group.patterns.split())


def file_name(group: Group) -> str:
    """Return a group's name as a module: the core is the package itself."""
    return ROOT if group.name == CORE else f"{ROOT}.{group.name}"


def file_path(group: Group) -> str:
    """Return the path of a group's file below lib, with the ending of a source."""
    if group.name == CORE:
        return CORE_PATH
    return file_name(group).replace(".", "/") + ".py"


def makes(module: str, names: Container[str]) -> str:
    """Return the driver, such as store_file, whose `make` a module has; empty for another module.

    names: what the module defines
    """
    package, _, last = module.rpartition(".")
    return last if package == f"{ROOT}.hal" and "make" in names else ""
