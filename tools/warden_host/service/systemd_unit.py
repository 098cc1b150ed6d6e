"""Write the systemd unit that serves a fleet: a user of its own, few rights, started again.

The unit gives the process its fleet's folder to write and nothing else: no other user's files, no
devices, no capabilities but that of a port below 1024 and, on request, that of nftables, no new
privileges, no core dumps.
"""

import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet

FOLDER = Path("/etc/systemd/system")
NAME = "warden"
WATCHDOG_S = 60
_LAST_PRIVILEGED_PORT = 1023


def unit(fleet: Fleet, user: str = "", options: Sequence[str] = (), firewall: bool = False) -> str:
    """Return the unit's text.

    user: the account that serves; default: the owner of the fleet's folder. options: further words
    of `warden serve`. firewall: whether it may change nftables. Raises bad-argument for root, for
    a user who is not there, and for one who does not own the fleet.
    """
    account = _account(fleet, user)
    command = [
        sys.executable,
        "-m",
        "warden_host.cli",
        "--fleet",
        str(fleet.root),
        "serve",
        "--json",
    ]
    words = " ".join(_quoted(word).replace("$", "$$") for word in [*command, *options])
    python = Path(sys.executable)  # of a virtual environment: a link to the interpreter
    needed = (fleet.root, python, python.resolve())
    home = "read-only" if any(map(_is_in_home, needed)) else "yes"
    broker = fleet.settings.broker
    low = min(broker.port, broker.admin_port) <= _LAST_PRIVILEGED_PORT
    rights = ["CAP_NET_BIND_SERVICE"] if low else []
    capability = " ".join(rights + (["CAP_NET_ADMIN"] if firewall else []))
    return f"""\
# Written by `warden service install`.
[Unit]
Description=Warden serves the fleet {_specifiers(fleet.root.name)}
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Type=notify
ExecStart={words}
User={account.pw_name}
WorkingDirectory={_unquoted(fleet.root)}
Restart=on-failure
RestartSec=5
WatchdogSec={WATCHDOG_S}
TimeoutStartSec=120
TimeoutStopSec=30
UMask=0077
LimitNOFILE=16384
LimitCORE=0

# Nothing but the fleet's folder can be written.
ProtectSystem=strict
ReadWritePaths={_quoted(str(fleet.root))}
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible

CapabilityBoundingSet={capability}
AmbientCapabilities={capability}
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
LockPersonality=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
KeyringMode=private
SystemCallArchitectures=native
# Whether a time server has set the clock is asked by the call that could set it; ProtectClock=
# would deny it. The capability that setting needs is not there.
SystemCallFilter=@system-service adjtimex clock_adjtime clock_adjtime64
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def _account(fleet: Fleet, user: str) -> pwd.struct_passwd:
    owner = _owner(fleet.root)
    try:
        account = pwd.getpwnam(user) if user else pwd.getpwuid(owner)
    except KeyError:
        raise HostError(
            "bad-argument",
            f"there is no user {user or owner} on this machine",
            "adduser(8) makes one, as a system account",
        ) from None
    if account.pw_uid == 0:
        raise HostError(
            "bad-argument",
            "the service would run as root, who may do everything on this machine",
            "make a user for it, and give it the fleet: sudo chown -R warden FLEET",
        )
    if account.pw_uid != owner:
        raise HostError(
            "bad-argument",
            f"the fleet's folder does not belong to {account.pw_name}",
            f"give it the fleet: sudo chown -R {account.pw_name} {fleet.root}",
        )
    return account


def _owner(path: Path) -> int:
    return path.stat().st_uid


def _is_in_home(path: Path) -> bool:
    """Return whether ProtectHome=yes would hide the path."""
    hidden = [Path("/", name) for name in ("home", "root")] + [Path("/run/user")]
    return any(folder in path.parents for folder in hidden)


def _quoted(word: str) -> str:
    """Return a word of a list, by systemd.syntax(7); a command line also doubles each $."""
    if not word.isprintable():
        raise HostError("bad-argument", f"a unit can't hold {os.fsencode(word)!r}")
    escaped = _specifiers(word).replace("\\", "\\\\").replace('"', '\\"')
    return escaped if word and not set(word) & set(" \\\"'$;") else f'"{escaped}"'


def _unquoted(path: Path) -> str:
    """Return a path of a setting that is one path: its value runs to the end of the line."""
    if not str(path).isprintable():
        raise HostError("bad-argument", f"a unit can't hold {os.fsencode(path)!r}")
    return _specifiers(str(path))


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
