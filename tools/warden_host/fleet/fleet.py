"""The fleet folder: everything that makes a fleet, in one place that can be backed up.

warden.toml   settings, no secret           keys/     private keys and passwords, 0600
fleet.db      devices, their keys, 0600     broker/   the broker's files
sim/          simulated devices             control.sock   while `warden serve` runs
"""

import os
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from warden_client import secretfile
from warden_host import names
from warden_host.errors import HostError

CONFIG = "warden.toml"
FORMAT = 1
DEFAULT_PORT = 8883
DEFAULT_ADMIN_PORT = 8882
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}\Z", re.ASCII)
# All tables of warden.toml: features read theirs from Fleet.document.
TABLES = frozenset(
    "broker authority connection otp alarms rabbitmq introspection bans reactions".split()
)
_BROKER_KEYS = frozenset(
    ("host", "listen", "port", "device_port", "admin_port", "names", "servers")
)
T = TypeVar("T", str, int)


@dataclass(frozen=True)
class BrokerSettings:
    """Addresses of the broker: host and device_port for devices, listen and port to bind to.

    They differ when a forwarder or a NAT is in between.
    """

    host: str = "127.0.0.1"
    listen: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    device_port: int = DEFAULT_PORT
    admin_port: int = DEFAULT_ADMIN_PORT
    names: tuple[str, ...] = ("localhost", "127.0.0.1")

    @property
    def contact(self) -> str:
        """Return the address at which this machine's own clients reach the broker."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.listen, self.listen)  # noqa: S104


@dataclass(frozen=True)
class Settings:
    """The content of warden.toml. commands: what the authority may send besides the protocol's."""

    broker: BrokerSettings
    commands: tuple[str, ...]  # that the authority may give, besides the protocol's


class Fleet:
    """An open fleet folder. Raises fleet-missing, config-malformed, key-permissions."""

    def __init__(self, root: Path, searched: str = "") -> None:
        self.root = root.absolute()
        if not (self.root / CONFIG).is_file():
            raise HostError(
                "fleet-missing",
                f"there is no {CONFIG} in {root}{searched}",
            )
        if self.root.stat().st_mode & 0o077:
            raise HostError(
                "key-permissions",
                "others can enter the fleet folder",
                f"chmod 700 {root}",
            )
        self.document = _read(self.root / CONFIG)  # for tables that features read themselves
        self.settings = _load(self.document)

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def broker(self) -> Path:
        return self.root / "broker"

    @property
    def database(self) -> Path:
        return self.root / "fleet.db"

    @property
    def control(self) -> Path:
        return self.root / "control.sock"

    def simulated(self, device: str) -> Path:
        return self.root / "sim" / names.check_id(device, "device ID")

    def app_password(self, appid: str) -> bytes:
        return secretfile.read(self.keys / f"app-{names.check_id(appid, 'appid')}.password")

    def save_app_password(self, appid: str, password: str) -> None:
        path = self.keys / f"app-{names.check_id(appid, 'appid')}.password"
        secretfile.write(path, password.encode())

    def remove_app_password(self, appid: str) -> None:
        """Remove the file with an application's password, if it is there."""
        path = self.keys / f"app-{names.check_id(appid, 'appid')}.password"
        path.unlink(missing_ok=True)


def create(root: Path, settings: Settings) -> Fleet:
    """Make an empty fleet folder with its settings; raises fleet-exists, config-malformed."""
    import tomli_w  # here, because every command imports this module

    _check(settings)
    if (root / CONFIG).exists():
        raise HostError("fleet-exists", f"{root} is a fleet already", "choose another folder")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise HostError("fleet-exists", f"{root} is not an empty folder", "choose another folder")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)
    for part in ("keys", "broker", "sim"):
        try:
            (root / part).mkdir(mode=0o700)
        except FileExistsError:  # another `warden init` of the same folder
            raise HostError(
                "fleet-exists", f"{root} is becoming a fleet just now", "choose another folder"
            ) from None
    broker = settings.broker
    document: dict[str, Any] = {
        "format": FORMAT,
        "broker": {
            "host": broker.host,
            "listen": broker.listen,
            "port": broker.port,
            "device_port": broker.device_port,
            "admin_port": broker.admin_port,
            "names": list(broker.names),
        },
        "authority": {"commands": list(settings.commands)},
    }
    secretfile.write(root / CONFIG, tomli_w.dumps(document).encode())
    return Fleet(root)


def find(given: Path | None) -> Fleet:
    """Return the given fleet, else the nearest one upward, else the one in ./fleet."""
    if given is not None:
        return Fleet(given)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / CONFIG).is_file():
            return Fleet(folder)
    return Fleet(Path("fleet"), f", nor in {here} or any folder above it")


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        text = file.read(secretfile.MAX_BYTES + 1)
    if len(text) > secretfile.MAX_BYTES:
        raise malformed(f"more than {secretfile.MAX_BYTES} bytes")
    try:
        document = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise malformed(f"not valid TOML ({error})") from None
    except (ValueError, RecursionError):
        raise malformed("a number of too many digits, or too many levels") from None
    if document.get("format") != FORMAT:
        raise malformed(f"format {document.get('format')!r} where {FORMAT} is known")
    return document


def check_keys(table: Any, known: Collection[str], where: str) -> dict[str, Any]:
    """Return a table of warden.toml whose keys are all known; where: its name, "" for the file.

    Raises config-malformed: a misspelt key would not do what the owner meant.
    """
    place = f"[{where}]" if where else "the file"
    if not isinstance(table, dict):
        raise malformed(f"{place} is missing or no table")
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise malformed(f"{place} has an unknown key, {unknown[0]!r}{meant(unknown[0], known)}")
    return table


def meant(name: str, known: Collection[str]) -> str:
    """Return a question after the nearest of the known names, or "" where none is near."""
    import difflib  # here, because every command imports this module

    near = difflib.get_close_matches(name, known, 1)
    return f": did you mean {near[0]}?" if near else ""


def _load(document: dict[str, Any]) -> Settings:
    check_keys(document, TABLES | {"format"}, "")
    broker = check_keys(document.get("broker"), _BROKER_KEYS, "broker")
    authority = check_keys(document.get("authority"), ("commands",), "authority")
    settings = Settings(
        BrokerSettings(
            host=_typed(broker, "host", str),
            listen=_typed(broker, "listen", str),
            port=_typed(broker, "port", int),
            device_port=_typed(broker, "device_port", int),
            admin_port=_typed(broker, "admin_port", int),
            names=_strings(broker, "names"),
        ),
        _strings(authority, "commands"),
    )
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    broker = settings.broker
    for name, number in (
        ("port", broker.port),
        ("device_port", broker.device_port),
        ("admin_port", broker.admin_port),
    ):
        if not 1 <= number <= 65535:
            raise malformed(f"broker.{name} is {number}, which is no TCP port")
    if broker.port == broker.admin_port:
        raise malformed("broker.port and broker.admin_port are the same")
    for value in (broker.host, broker.listen, *broker.names):
        # These end up in the broker's configuration and in a certificate: a line break would add a
        # setting.
        if not is_host(value):
            raise malformed(f"{value!r} is no host name or address")
    for command in settings.commands:
        names.check_grant(command)


def is_host(value: str) -> bool:
    """Return whether it is a host name or an address, and so adds no line to a configuration."""
    return _HOST.match(value) is not None


def _typed(table: dict[str, Any], key: str, kind: type[T]) -> T:
    value = table.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise malformed(f"{key} is missing or no {kind.__name__}")
    return value


def _strings(table: dict[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise malformed(f"{key} is missing or no list of strings")
    return tuple(value)


def malformed(why: str) -> HostError:
    """Return the error for a warden.toml that can't be used."""
    return HostError("config-malformed", f"{CONFIG}: {why}", "put the file right, or restore it")
