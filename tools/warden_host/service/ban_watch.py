"""Ban addresses from which log-ins are refused, while `warden serve` runs.

The broker's log thread hands over what became of each connection; everything else is done on a
thread of its own, in batches: a flood of refused log-ins costs the broker nothing.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from warden_host import names
from warden_host.addresses import is_loopback, network_of_client
from warden_host.bans import ban_log
from warden_host.bans.ban_log import BanLog
from warden_host.bans.enforcement import Enforcement, Status
from warden_host.bans.known import KnownAddresses
from warden_host.bans.networks import short
from warden_host.bans.settings import BanSettings
from warden_host.bans.strikes import Strikes
from warden_host.broker.backend import Attempt, AttemptKind
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError, filesystem_error, internal_error
from warden_host.fleet.fleet import Fleet
from warden_host.service.background import round_guard
from warden_host.store.bans import BAN, MAX_BANS, Ban
from warden_host.store.store import Store

MAX_WAITING = 20_000
_BATCH = 500
_ANSWER_S = 60.0  # of the watch, for who asks it
_LOOK_AGAIN_S = 30.0  # at what has ended, and whether the rules are still loaded
SHOWN_A_MINUTE = 20
# Above what fleet.db keeps: so many more are in memory and in the kernel's set at most.
SPARE_BANS = 5000
MAX_PENDING = SPARE_BANS // 2  # bans that wait for fleet.db; the oldest ones are lifted beyond
OPERATOR = "operator"  # kind of a client: one in a browser, as in operator:alice

_Job = Attempt | Callable[[Store], None]
_Result = TypeVar("_Result")


class BanWatch:
    """Run while it is entered. attempt() is called on the broker's log thread.

    is_question: returns whether a client is this host's own question who serves the fleet.
    announce: shows an event; a notice of a ban is an alarm, too.
    """

    def __init__(
        self,
        fleet: Fleet,
        settings: BanSettings,
        is_question: Callable[[str], bool],
        announce: Callable[[FleetEvent], None],
        is_own: Callable[[str], bool] | None = None,
    ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._is_question = is_question
        self._announce = announce
        self.enforcement = Enforcement(fleet, settings)
        self.known = KnownAddresses(settings.known_days)
        self._is_own = is_own or _is_own
        self.strikes = Strikes(settings, self._clients, self._is_own)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MAX_WAITING)
        self._lost = 0
        self._store: Store | None = None
        self._minute = (float("-inf"), 0)
        self._unsaid = 0
        self._looked = float("-inf")
        self._reported: set[str] = set()
        self._failure: Exception | None = None  # the first one of the batch
        self._rounds = round_guard("bans", announce)
        self._keeping = round_guard("bans are in force, and can't be kept yet", announce)
        self._thread = threading.Thread(target=self._run, name="warden-bans", daemon=True)

    def __enter__(self) -> "BanWatch":
        self._log = BanLog(ban_log.path_of(self._fleet))
        self._store = store = Store(self._fleet.database)
        now = time.time()
        self.known.load(store, now)
        self._apply(store)
        if not self.enforcement.status.enforced:
            self._say_unenforced(self.enforcement.status)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._thread.join()
        if self._store is not None:
            self._store.close()
        self._log.close()

    def attempt(self, attempt: Attempt) -> None:
        """Take what became of a connection; never wait."""
        try:
            self._jobs.put_nowait(attempt)
        except queue.Full:
            self._lost += 1

    def keeps_out(self, address: str) -> bool:
        """Return whether a browser's address is banned, or refused by the list in force.

        As nftables has it: this machine's own addresses never are.
        """
        if is_loopback(address) or not self.enforcement.is_refused(address):
            return False
        return not self._is_own(address)

    def guard_console(self, port: int) -> None:
        """Let nftables keep banned addresses from the console's port, too."""

        def work(store: Store) -> None:
            self.enforcement.console_port = port
            self._apply(store)

        self._jobs.put(work)

    def lifted(self, networks: list[str] | None) -> None:
        """Begin anew with networks whose bans were lifted; None: all that there were."""

        def work(_: Store) -> None:
            for network in self.strikes.in_force() if networks is None else networks:
                self.strikes.lifted(network)
                self.enforcement.pending.pop(network, None)
                self._write(partial(BanLog.lifted, moment=time.time(), network=network))

        self._jobs.put(work)

    def reload(self) -> Status:
        """Follow changes of fleet.db; return what is enforced. Raises what applying raises."""
        done = threading.Event()
        raised: list[HostError] = []

        def work(store: Store) -> None:
            try:
                self._apply(store, raising=True)
            except HostError as error:
                raised.append(error)
            except Exception as error:
                raised.append(_host_error(error))
                raise
            finally:
                done.set()

        self._jobs.put(work)
        if not done.wait(_ANSWER_S):
            raise HostError("not-serving", "the watch over addresses gave no answer")
        if raised:
            raise raised[0]
        return self.enforcement.status

    def _run(self) -> None:
        going_on = True
        while going_on and self._store is not None:
            going_on = self._work(self._store, self._next_jobs())
            if self._failure is not None:  # one of a batch: a flood of them would fill the log
                self._announce_failure(self._failure)
                self._failure = None

    def _next_jobs(self) -> list[_Job | None]:
        jobs: list[_Job | None] = []
        with contextlib.suppress(queue.Empty):
            jobs.append(self._jobs.get(timeout=_LOOK_AGAIN_S))
            while len(jobs) < _BATCH:
                jobs.append(self._jobs.get_nowait())
        return jobs

    def _work(self, store: Store, jobs: list[_Job | None]) -> bool:
        """Do a batch of jobs; return False where it ends the thread."""
        bans: list[Ban] = []
        for job in jobs:
            if isinstance(job, Attempt):
                bans += self._try(self._judge, job) or []
                continue
            self._try(self._ban, store, bans)  # what a request asks for comes after it
            bans = []
            if job is not None:
                self._try(job, store)
        self._try(self._ban, store, bans)
        going_on = None not in jobs
        self._try(self._look, store, going_on)
        return going_on

    def _try(self, work: Callable[..., _Result], *given: Any) -> _Result | None:
        """Do a part of a batch. A failure of it costs no other part; the first one is kept."""
        try:
            return work(*given)
        # Of any kind: without this thread nobody would be banned.
        except Exception as error:  # noqa: BLE001
            self._failure = self._failure or error
            return None

    def _look(self, store: Store, going_on: bool) -> None:
        """Keep which addresses are known, and look now and then at what has ended."""
        now = time.time()
        self._try(self.known.save, store, now, not going_on)
        if not going_on:
            self._keep(store)
        if not 0 <= now - self._looked < _LOOK_AGAIN_S:
            self._looked = now
            self._keep(store)
            if self._try(store.drop_past_bans, now):
                self._apply(store)
            else:
                self.enforcement.restore(store, now)

    def _judge(self, attempt: Attempt) -> list[Ban]:
        if attempt.kind is AttemptKind.LOGGED_IN:
            self._logged_in(attempt)
        elif attempt.kind is AttemptKind.CLEARED:
            self.strikes.cleared(attempt)
            self._write(lambda log: log.cleared(attempt.time, attempt.address))
        elif not self._is_question(attempt.client):
            ban = self.strikes.refused(attempt)
            count = ban.attempts if ban is not None else self.strikes.count(attempt.address)
            limit = self._settings.attempts
            self._write(
                lambda log: log.refused(
                    attempt.time, attempt.address, count, limit, attempt.client
                )
            )
            return [] if ban is None else [ban]
        return []

    def _logged_in(self, attempt: Attempt) -> None:
        address = attempt.address
        # A log-in with what anyone knows makes no address a device's.
        if is_loopback(address) or names.is_open_client(attempt.client):
            return
        self.known.note(network_of_client(address), attempt.client, attempt.time)
        if self.enforcement.status.enforced or self._store is None:
            return
        if address not in self._reported and len(self._reported) < MAX_WAITING:
            if self.enforcement.is_refused(address):
                self._reported.add(address)
                text = f"{address} may not connect, and nothing here stops it"
                self._announce(FleetEvent("notice", code="address-refused", text=text))

    def _ban(self, store: Store, bans: list[Ban]) -> None:
        """Put bans in force, and then into fleet.db: a full disk lets no guesser in."""
        if not bans:
            return
        pending = self.enforcement.pending
        for ban in bans:
            pending.pop(ban.network, None)
            pending[ban.network] = ban
        while len(pending) > MAX_PENDING:
            del pending[next(iter(pending))]
        if self.strikes.count_in_force > MAX_BANS + SPARE_BANS:
            self._keep(store)
            self._apply(store)  # without those that newer ones pushed out of fleet.db
            status = self.enforcement.status
        else:
            try:
                status = self.enforcement.add(store, bans, time.time())
            finally:
                self._keep(store)
        for ban in bans:
            self._write(partial(BanLog.banned, ban=ban))
            self._show(ban, status)

    def _keep(self, store: Store) -> None:
        """Write the bans that wait into fleet.db; where it does not take them they wait on."""
        pending = self.enforcement.pending
        if pending and self._keeping.attempt(store.put_bans, list(pending.values())):
            pending.clear()

    def _show(self, ban: Ban, status: Status) -> None:
        now = time.monotonic()
        began, shown = self._minute
        if now - began >= 60:
            began, shown = now, 0
        self._minute = began, shown + 1
        if shown >= SHOWN_A_MINUTE:
            self._unsaid += 1
            return
        others, self._unsaid = self._unsaid, 0
        word = "banned" if ban.kind == BAN else "slowed"
        text = f"{short(ban.network)} is {word}: {ban.why}"
        if not status.enforced:
            text += f"; not enforced: {status.why}"
        if others:
            text += f"; {others} others were not shown"
        code = "address-banned" if ban.kind == BAN else "address-slowed"
        self._announce(FleetEvent("notice", code=code, text=text))

    def _apply(self, store: Store, raising: bool = False) -> None:
        now = time.time()
        present = self.enforcement.bans(store, now)
        if pending := self.enforcement.pending:  # without what ended, or a person changed
            kept = set(present)
            self.enforcement.pending = {key: ban for key, ban in pending.items() if ban in kept}
        before = set(self.strikes.in_force())
        self.strikes.set_in_force(present)
        self._reported.clear()
        if raising:  # a person's: fail2ban learns of them from the log
            for ban in present:
                if ban.network not in before:
                    self._write(partial(BanLog.banned, ban=ban))
        try:
            self.enforcement.apply(store, now)
        except HostError as error:
            if raising:
                raise
            self._announce(FleetEvent("notice", code=error.code, text=error.text))

    def _clients(self, network: str) -> int:
        """Return how many clients logged in from there lately and are still of the fleet."""
        store = self._store
        clients = self.known.clients(network, time.time())
        return 0 if store is None else sum(_is_client(store, client) for client in clients)

    def _say_unenforced(self, status: Status) -> None:
        text = f"addresses are watched, and none is blocked: {status.why}"
        hint = f" ({status.hint})" if status.hint else ""
        self._announce(FleetEvent("notice", code="bans-unenforced", text=text + hint))

    def _write(self, line: Callable[[BanLog], None]) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk costs lines of the log
            line(self._log)

    def _announce_failure(self, error: Exception) -> None:
        if not isinstance(error, HostError | OSError):
            self._rounds.note(error)
            return
        found = _host_error(error)
        self._announce(FleetEvent("notice", code=found.code, text=f"bans: {found.text}"))


def _host_error(error: Exception) -> HostError:
    if isinstance(error, OSError):
        return filesystem_error(error)
    return error if isinstance(error, HostError) else internal_error(error)


def _is_client(store: Store, client: str) -> bool:
    """Return whether a client that logged in is still one of the fleet."""
    try:
        _, device = names.parse_device_client(client)
    except HostError:
        kind, _, name = client.partition(":")
        if kind == OPERATOR:
            return store.operator(name) is not None
        appid = name.partition(":")[0]
        return kind in ("a", "t") and appid in {app.appid for app in store.apps()}
    found = store.find(device)
    return found is not None and not (found.ending is not None and found.ending.revoked)


def _is_own(address: str) -> bool:
    """Return whether this machine has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return True
    return False
