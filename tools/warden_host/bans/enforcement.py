"""Make nftables follow fleet.db, where this process may; say plainly where it may not."""

import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from warden_host import jsontext
from warden_host.addresses import canonical_address, is_loopback
from warden_host.bans import listed, ruleset
from warden_host.bans.index import NetworkIndex
from warden_host.bans.listed import refuses
from warden_host.bans.networks import Network, parse_network
from warden_host.bans.ruleset import Wanted
from warden_host.bans.settings import BanSettings
from warden_host.broker import connection
from warden_host.broker.backend import wanted_listeners
from warden_host.childprocess import has_firewall_right
from warden_host.fleet.fleet import Fleet
from warden_host.store.bans import BAN, Ban
from warden_host.store.store import Store

_NFT_S = 30.0
_EACH_CLIENT = 2  # new connections a minute, of the clients at a slowed address
_STEP = 10  # between the rates of slowed addresses
_PATH = "/usr/sbin:/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Status:
    """enforced: whether nftables holds what fleet.db says. why, hint: where it does not."""

    enforced: bool
    why: str = ""
    hint: str = ""

    def record(self) -> dict[str, object]:
        """Return the status for JSON."""
        return {"enforced": self.enforced, "why": self.why, "hint": self.hint}


OK = Status(True)
_NOT_INSTALLED = Status(False, "nft is not installed", "sudo apt install nftables")
_NO_RIGHT = Status(
    False,
    "this process may not change nftables",
    "`warden service install` can give the service the right, `sudo warden bans apply` does it "
    "once, `warden bans fail2ban` lets fail2ban do it: docs/bans.md",
)


class Enforcement:
    """The table of one fleet. Threads may share it; one of them changes `pending`."""

    def __init__(self, fleet: Fleet, settings: BanSettings) -> None:
        self._fleet = fleet
        self._settings = settings
        self._name = ruleset.table_name(fleet.settings.broker.port)
        self._guard = threading.Lock()
        self._loaded: set[Network] | None = None  # banned; None: no table of ours
        self._listed_key: object = None
        self._listed_now: tuple[Network, ...] = ()
        # Banned; the active list and its networks.
        self._refused = NetworkIndex(()), "", NetworkIndex(())
        # Network → a ban that fleet.db has not taken yet: it is in force all the same.
        self.pending: dict[str, Ban] = {}
        self.console_port = 0  # where browsers connect from elsewhere
        self.status = may_enforce()

    def apply(self, store: Store, now: float) -> Status:
        """Load what fleet.db and `pending` say; without a ban and a list no table is needed.

        Raises geo-missing, geo-damaged, config-malformed.
        """
        wanted = self.wanted(store, now)
        with self._guard:
            self._refused = (
                NetworkIndex(wanted.banned),
                wanted.active,
                NetworkIndex(wanted.listed),
            )
        return self.load(wanted)

    def load(self, wanted: Wanted) -> Status:
        """Load rules, in place of those that are loaded; none where nobody else gets here."""
        with self._guard:
            if is_local(self._fleet) and not self.console_port:
                self.status = OK
                return OK
            if wanted.empty and self._loaded is None and not self._is_loaded():
                self.status = may_enforce()
                return self.status
            self.status = _run_nft(ruleset.whole(self._name, wanted))
            there = self.status.enforced and not wanted.empty
            self._loaded = set(wanted.banned) if there else None
            return self.status

    def add(self, store: Store, bans: Iterable[Ban], now: float) -> Status:
        """Load further bans, which are in `pending` or in fleet.db."""
        fresh = [(ban.kind == BAN, parse_network(ban.network)) for ban in bans]
        with self._guard:
            loaded = self._loaded
            if loaded is not None and all(
                is_ban and not _is_covered(loaded, one) for is_ban, one in fresh
            ):
                banned = [network for _, network in fresh]
                self.status = _run_nft(ruleset.additions(self._name, banned))
                if self.status.enforced:
                    loaded.update(banned)
                    return self.status
            self.status = may_enforce()
            if not self.status.enforced:
                return self.status
        return self.apply(store, now)  # also where another program flushed the table

    def restore(self, store: Store, now: float) -> None:
        """Load the rules anew where another program flushed them."""
        with self._guard:
            lost = self._loaded is not None and not self._is_loaded()
        if lost:
            self.apply(store, now)

    def is_refused(self, address: str) -> bool:
        """Return whether an address may not connect, by what was applied last."""
        with self._guard:
            banned, active, listed_now = self._refused
        parsed = parse_network(canonical_address(address))
        return parsed in banned or refuses(active, listed_now, parsed)

    def bans(self, store: Store, now: float) -> list[Ban]:
        """Return the bans in force, with those of `pending`, the later one of each network."""
        found = list(self.pending.values())  # first: what is stored meanwhile is not missed
        later: dict[str, Ban] = {}
        for ban in (*store.bans(now), *found):
            there = later.get(ban.network)
            if (ban.until is None or ban.until > now) and (
                there is None or ban.since >= there.since
            ):
                later[ban.network] = ban
        return list(later.values())

    def wanted(self, store: Store, now: float) -> Wanted:
        """Return what is to be loaded. Raises geo-missing, geo-damaged, config-malformed."""
        bans = self.bans(store, now)
        active = store.active_list()
        return Wanted(
            ports(self._fleet) + ((self.console_port,) if self.console_port else ()),
            ruleset.networks(ban.network for ban in bans if ban.kind == BAN),
            self._slowed(store, [ban.network for ban in bans if ban.kind != BAN], now),
            self._listed(store.list_entries(active)) if active else (),
            active,
        )

    def _slowed(
        self, store: Store, slowed: list[str], now: float
    ) -> dict[int, tuple[Network, ...]]:
        """Return new connections a minute → networks: more where more clients are known."""
        found: dict[int, list[str]] = {}
        since = now - self._settings.known_days * 86_400
        for network in slowed:
            rate = self._settings.slow_per_minute
            while rate < _EACH_CLIENT * store.count_logins(network, since):
                rate *= _STEP
            found.setdefault(rate, []).append(network)
        return {rate: ruleset.networks(texts) for rate, texts in sorted(found.items())}

    def _listed(self, entries: list[str]) -> tuple[Network, ...]:
        """Return a list's networks; a large country's are found once."""
        path = self._settings.countries
        key = (tuple(entries), None if path is None else _stamp(path))
        if key != self._listed_key:
            self._listed_now = listed.networks_of(self._settings, entries)
            self._listed_key = key
        return self._listed_now

    def _is_loaded(self) -> bool:
        """Return whether an earlier `serve` left a table, where this process may ask."""
        program = _nft()
        if program is None or not has_firewall_right():
            return False
        found = _call([program, "--terse", "list", "table", "inet", self._name], "")
        return found is not None and found.returncode == 0


def is_local(fleet: Fleet) -> bool:
    """Return whether the broker listens to this machine alone, which is never banned."""
    listen = fleet.settings.broker.listen
    return listen == "localhost" or is_loopback(listen)


def may_enforce() -> Status:
    """Return whether this process may load rules at all, without loading any."""
    if _nft() is None:
        return _NOT_INSTALLED
    return OK if has_firewall_right() else _NO_RIGHT


def ports(fleet: Fleet) -> tuple[int, ...]:
    """Return the broker's ports for devices and applications."""
    terms = connection.load(fleet)
    found = {terms.port(one, fleet.settings.broker.port) for one in wanted_listeners(fleet)}
    return tuple(sorted(found))


def _run_nft(script: str) -> Status:
    program, allowed = _nft(), may_enforce()
    if program is None or not allowed.enforced:
        return allowed
    done = _call([program, "-f", "-"], script)
    if done is None:
        return Status(False, "nft gave no answer", "look at the machine's load, and try again")
    if done.returncode == 0:
        return OK
    if "not permitted" in done.stderr:
        return _NO_RIGHT
    said = jsontext.printable(" ".join(done.stderr.split())[:200])
    return Status(False, f"nft refused the rules: {said}", "report this as a bug")


def _call(command: list[str], text: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_NFT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _nft() -> str | None:
    return shutil.which("nft") or shutil.which("nft", path=_PATH)


def _stamp(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except OSError:
        return (str(path),)
    return str(path), found.st_mtime_ns, found.st_size


def _is_covered(loaded: set[Network], network: Network) -> bool:
    """Return whether the network, or one that holds it, is loaded: nft refuses an overlap."""
    return any(
        network.supernet(new_prefix=bits) in loaded for bits in range(network.prefixlen + 1)
    )
