"""mosquitto as a child process: its configuration, its start and its stop.

The child inherits broker/lock: a broker that outlived a killed `warden serve` is noticed, and the
registry is not edited while it runs.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from warden_client import secretfile

from warden_host import filelock, jsontext
from warden_host.bounded_log import lines_of
from warden_host.broker import connection
from warden_host.broker.connection import Listener
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.broker.mosquitto.attempts import Attempt, AttemptReader
from warden_host.broker.mosquitto.config import configuration, listening
from warden_host.broker.mosquitto.living_peers import LivingPeers
from warden_host.broker.mosquitto.log import BrokerLog
from warden_host.broker.mosquitto.logins import LoginReader, RefusedLogin
from warden_host.broker.mosquitto.places import Places
from warden_host.broker.mosquitto.upgrade import upgrade
from warden_host.childprocess import terminate, tie_to_us
from warden_host.errors import HostError
from warden_host.fleet import client_pki
from warden_host.fleet.fleet import BrokerSettings, Fleet
from warden_host.protocol import policy
from warden_host.round_guard import RoundGuard, Tell
from warden_host.store.store import Store

CONF = "mosquitto.conf"
LOG = "mosquitto.log"
MAX_PACKET = 32768  # twice the largest max_message
CERTIFICATE_PACKET = 4096  # a new RSA certificate with its key
LEAST_PACKET = 2048  # what the administrator's commands need; the default max_message
MAX_LOG = 4 << 20  # bytes of each of the log's two files
_START_S = 15.0
_KEYS = {  # of warden.toml
    Listener.TLS: "broker.port",
    Listener.CERTIFICATE: "connection.certificate_port",
    Listener.BOTH: "connection.both_port",
    Listener.BARE: "connection.bare_port",
}
_PLUGIN = "mosquitto_dynamic_security.so"


class Broker:
    """A running broker, as a context manager.

    Raises broker-missing, broker-port, broker-running, broker-failed.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lock: filelock.Lock | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._log: BrokerLog | None = None
        self.packet_limit = 0  # bytes of the largest packet that it takes
        self._listeners: list[Listener] = []
        self._logins = LoginReader()
        # Returns whether clients of the fleet log in from an address.
        self.is_known_address: Callable[[str], bool] = lambda _: False
        self._attempts = AttemptReader(
            lambda address: self.is_known_address(address), LivingPeers(lambda: self.ports).look
        )
        self.places = Places()  # addresses from which clients logged in
        # Called with each log-in that was refused, on the log's thread.
        self.on_refused_login: Callable[[RefusedLogin], None] | None = None
        # Called with what became of each connection, in the same way.
        self.on_attempt: Callable[[Attempt], None] | None = None
        # Called for unforeseen exceptions, such as what the two raise all the same.
        self.tell: Tell = lambda *_: None
        self._rounds = RoundGuard(
            "a line of the broker's log was not read", lambda *given: self.tell(*given)
        )

    @property
    def ports(self) -> list[int]:
        """Return the ports of the listeners for devices."""
        terms, settings = connection.load(self._fleet), self._fleet.settings.broker
        return [terms.port(one, settings.port) for one in self._listeners]

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    def start(self) -> None:
        """Start the broker and wait until it listens."""
        fleet, settings = self._fleet, self._fleet.settings.broker
        binary = find_binary()
        secretfile.read(fleet.keys / "server.key")  # refuses a key that others can read
        with registry.exclusive_access(fleet):  # no account changes while they are read
            self._start(binary, settings)

    def _check_registry(self, binary: str) -> None:
        """Raise registry-damaged where this mosquitto can't check some of the passwords."""
        if version(binary) >= (2, 1):
            return
        lost = dynsec.convert_to_2_0(self._fleet.broker, registry.own_passwords(self._fleet))
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            raise HostError(
                "registry-damaged",
                "mosquitto 2.1 set passwords that this older one refuses: "
                f"{', '.join(lost[:3])}{more}",
                "install mosquitto 2.1 again, or provision these devices again",
            )

    def _start(self, binary: str, settings: BrokerSettings) -> None:
        fleet = self._fleet
        addresses, self.packet_limit = listening(settings), largest_packet(fleet)
        self._listeners = wanted_listeners(fleet)
        terms = connection.load(fleet)
        connection.check_bare(terms, self._listeners)
        ports = {one: terms.port(one, settings.port) for one in self._listeners}
        if any(one.wants_certificate for one in ports):
            client_pki.check_exists(fleet)
        (fleet.broker / CONF).write_text(
            configuration(settings, addresses, ports, self.packet_limit, find_plugin())
        )
        self._lock = filelock.try_lock(fleet.broker / "lock")
        if self._lock is None:
            raise HostError(
                "broker-running",
                "this fleet's broker runs already" + filelock.holder_hint(fleet.broker / "lock"),
                "stop the other `warden serve`; if there is none, end the mosquitto that it left",
            )
        try:
            self._check_registry(binary)
            upgrade(fleet)
            for address in addresses:
                for listener, port in ports.items():
                    _check_port(address, port, _KEYS[listener])
            _check_port("127.0.0.1", settings.admin_port, "broker.admin_port")
            self._spawn(binary, self._lock)
            self._wait_until_up(settings, ports)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Terminate the broker, by its pid, and release the lock."""
        child, self._child = self._child, None
        if child is not None:
            terminate(child)
        log, self._log = self._log, None
        if log is not None:
            log.close()
        if self._lock is not None:
            self._lock.file.close()
            self._lock = None

    def restart_warning(self) -> str:
        """Return a warning where a device needs what only a new start gives, else "".

        mosquitto reads its limit and its listeners only at the start.
        """
        missing = [one for one in wanted_listeners(self._fleet) if one not in self._listeners]
        if missing:
            text = f"a device needs the broker's listener {missing[0].words}"
            return f"{text}: start `warden serve` again"
        wanted = largest_packet(self._fleet)
        if wanted <= self.packet_limit:
            return ""
        text = f"a device takes packets of {wanted} bytes, and the broker {self.packet_limit}"
        return f"{text}: start `warden serve` again"

    def alive(self) -> bool:
        """Return whether the broker runs."""
        return self._child is not None and self._child.poll() is None

    def exit_words(self) -> str:
        """Return how a broker that was started has ended."""
        status = None if self._child is None else self._child.poll()
        if status is None:
            return "it does not run"
        if status < 0:
            return f"by signal {-status}"
        return f"with exit code {status}: {self._last_words()}"

    def reload(self) -> None:
        """Let the broker read certificates, keys and the revocation list anew.

        Connections that are open stay open. Raises broker-failed where the broker has ended.
        """
        self.check_alive()
        if self._child is not None:
            self._child.send_signal(signal.SIGHUP)

    def check_alive(self) -> None:
        """Raise broker-failed where the broker has ended."""
        if not self.alive():
            raise HostError("broker-failed", "mosquitto ended", f"see broker/{LOG} in the fleet")

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, binary: str, lock: filelock.Lock) -> None:
        folder = self._fleet.broker
        self._log = BrokerLog(folder / LOG, MAX_LOG, self._read_lines)
        self._child = subprocess.Popen(
            tie_to_us([binary, "-c", CONF]),
            cwd=folder,  # the paths inside the configuration are relative: a fleet can move
            stdin=subprocess.DEVNULL,
            stdout=self._log.writer,
            stderr=self._log.writer,
            pass_fds=(lock.fileno(),),
            umask=0o077,
            # A Ctrl-C in the terminal is for us: we stop the broker when our clients are done.
            start_new_session=True,
        )
        self._log.started()
        lock.file.truncate(0)
        lock.file.write(str(self._child.pid))
        lock.file.flush()

    def _read_lines(self, lines: list[str]) -> None:
        for read in (self.places.read, self._read_logins, self._read_attempts):
            left = iter(lines)
            for _ in lines:  # a line that fails costs none of the others
                if self._rounds.attempt(read, left):
                    break

    def _read_logins(self, lines: Iterator[str]) -> None:
        for refused in self._logins.read(lines):
            if self.on_refused_login is not None:
                self.on_refused_login(refused)

    def _read_attempts(self, lines: Iterator[str]) -> None:
        for attempt in self._attempts.read(lines):
            if self.on_attempt is not None:
                self.on_attempt(attempt)

    def _wait_until_up(self, settings: BrokerSettings, ports: dict[Listener, int]) -> None:
        deadline = time.monotonic() + _START_S
        for host, port in (
            *((settings.contact, port) for port in ports.values()),
            ("127.0.0.1", settings.admin_port),
        ):
            while True:
                if not self.alive():
                    raise HostError(
                        "broker-failed",
                        "mosquitto ended at once: " + self._last_words(),
                        f"see broker/{LOG} in the fleet",
                    )
                with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
                    break
                if time.monotonic() > deadline:
                    raise HostError("broker-failed", f"mosquitto does not listen on port {port}")
                time.sleep(0.02)

    def _last_words(self) -> str:
        if self._log is None:
            return "it wrote nothing"
        self._log.close()
        words = [
            line for line in self._log.tail.decode(errors="replace").split("\n") if "rror" in line
        ]
        return jsontext.printable(words[-1][:200]) if words else "its log names no error"


def is_running(fleet: Fleet) -> bool:
    """Return whether the fleet's broker runs here, also one that a killed service left."""
    lock = filelock.try_lock(fleet.broker / "lock")
    if lock is None:
        return True
    with lock:
        return False


def read_refused_logins(fleet: Fleet) -> Iterator[RefusedLogin]:
    """Yield what the log holds of log-ins that were refused, the oldest first."""
    return LoginReader().read(lines_of(fleet.broker / LOG))


def wanted_listeners(fleet: Fleet, records: list[bytes] | None = None) -> list[Listener]:
    """Return the listeners that the fleet's devices need, and those that warden.toml gives.

    records: the devices' policies; those of fleet.db where they are left out.
    """
    records = _policies(fleet) if records is None else records
    return connection.load(fleet).listeners([connection.of_record(one) for one in records])


def _policies(fleet: Fleet) -> list[bytes]:
    with Store(fleet.database) as store:
        return store.policies()


def largest_packet(fleet: Fleet, records: list[bytes] | None = None) -> int:
    """Return the bytes of the largest packet that any device of the fleet takes.

    records: as for wanted_listeners().

    A device drops its connection at a larger one, whichever client sent it. Where there are
    certificates it is what an RSA key needs: the first such device then needs no new start.
    """
    records = _policies(fleet) if records is None else records
    sizes = [policy.max_message(record) for record in records]
    if any(one.wants_certificate for one in wanted_listeners(fleet, records)):
        sizes.append(CERTIFICATE_PACKET)
    return max([LEAST_PACKET, *sizes])


def find_binary() -> str:
    """Return mosquitto's path, also outside PATH as on Debian; raises broker-missing."""
    found = shutil.which("mosquitto") or shutil.which(
        "mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
    )
    if found is None:
        raise HostError(
            "broker-missing", "mosquitto is not installed", "sudo apt install mosquitto"
        )
    return found


def version(binary: str) -> tuple[int, ...]:
    """Return mosquitto's version, such as (2, 0, 11); (0,) where it does not say."""
    try:
        help_text = subprocess.run(
            [binary, "-h"], capture_output=True, timeout=_START_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    found = re.search(rb"mosquitto version (\d+(?:\.\d+)*)", help_text.stdout)
    return tuple(int(part) for part in found[1].split(b".")) if found else (0,)


def find_plugin() -> Path:
    """Return the dynamic-security plugin's path; raises broker-missing."""
    given = os.environ.get("WARDEN_DYNSEC")
    if given:
        return Path(given)
    for folder in ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib"):
        for pattern in (_PLUGIN, "*/" + _PLUGIN):
            for path in sorted(Path(folder).glob(pattern)):
                return path
    raise HostError(
        "broker-missing",
        "mosquitto's dynamic-security plugin is not there",
        "install mosquitto 2.0 or newer, or name the plugin in WARDEN_DYNSEC",
    )


def _check_port(host: str, port: int, key: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise HostError(
                "broker-port",
                f"{host}:{port} can't be used ({error.strerror})",
                f"stop what listens there, or change {key} in warden.toml",
            ) from None
