"""mosquitto as a child process: its configuration, its start and its stop.

The child inherits broker/lock: a broker that outlived a killed `warden serve` is noticed, and the
registry is not edited while it runs.
"""

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from warden_host import filelock, jsontext, secretfile
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.broker.mosquitto.dynsec import FILE as REGISTRY
from warden_host.broker.mosquitto.log import BrokerLog
from warden_host.childprocess import terminate, tie_to_us
from warden_host.errors import HostError
from warden_host.fleet.fleet import BrokerSettings, Fleet
from warden_host.protocol import policy
from warden_host.store.store import Store

CONF = "mosquitto.conf"
LOG = "mosquitto.log"
MAX_PACKET = 32768  # twice the largest max_message
LEAST_PACKET = 2048  # what the administrator's commands need; the default max_message
MAX_LOG = 4 << 20  # bytes of each of the log's two files
_START_S = 15.0
_PLUGIN = "mosquitto_dynamic_security.so"
_CIPHERS = ":".join(
    f"ECDHE-ECDSA-{name}"
    for name in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
)


class Broker:
    """A running broker, as a context manager.

    Raises broker-missing, broker-port, broker-running, broker-failed.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lock: filelock.Lock | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._log: BrokerLog | None = None
        self._largest = 0  # bytes of the largest packet that it takes

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
        addresses, self._largest = listening(settings), largest_packet(fleet)
        (fleet.broker / CONF).write_text(
            configuration(settings, addresses, self._largest, find_plugin())
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
            for address in addresses:
                _check_port(address, settings.port, "port")
            _check_port("127.0.0.1", settings.admin_port, "admin_port")
            self._spawn(binary)
            self._wait_until_up(settings)
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

    def packet_limit_warning(self) -> str:
        """Return a warning where a device takes larger packets than the broker, else "".

        mosquitto reads its limit only at the start.
        """
        wanted = largest_packet(self._fleet)
        if wanted <= self._largest:
            return ""
        text = f"a device takes packets of {wanted} bytes, and the broker {self._largest}"
        return f"{text}: start `warden serve` again"

    def alive(self) -> bool:
        """Return whether the broker runs."""
        return self._child is not None and self._child.poll() is None

    def check_alive(self) -> None:
        """Raise broker-failed where the broker has ended."""
        if not self.alive():
            raise HostError("broker-failed", "mosquitto ended", f"see broker/{LOG} in the fleet")

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, binary: str) -> None:
        folder, lock = self._fleet.broker, self._lock
        if lock is None:
            raise HostError("broker-failed", "no lock")
        self._log = BrokerLog(folder / LOG, MAX_LOG)
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

    def _wait_until_up(self, settings: BrokerSettings) -> None:
        deadline = time.monotonic() + _START_S
        for host, port in (
            (settings.contact, settings.port),
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
        return jsontext.printable(words[-1][:200]) if words else "it wrote nothing"


def listening(settings: BrokerSettings) -> list[str]:
    """Return the addresses to listen on: both loopback ones, where devices are told "localhost".

    That name often means both, and a client may try only one.
    """
    pair = {"127.0.0.1": "::1", "::1": "127.0.0.1"}
    other = pair.get(settings.listen)
    if settings.host.lower() != "localhost" or other is None:
        return [settings.listen]
    found = set()
    with contextlib.suppress(OSError):  # no such name here: devices may know it
        found = {entry[4][0] for entry in socket.getaddrinfo(settings.host, None)}
    return [settings.listen, other] if other in found and _is_ours(other) else [settings.listen]


def largest_packet(fleet: Fleet) -> int:
    """Return the bytes of the largest packet that any device of the fleet takes.

    A device drops its connection at a larger one, whichever client sent it.
    """
    with Store(fleet.database) as store:
        sizes = [int(policy.parse(record)["max_message"]) for record in store.policies()]
    return max([LEAST_PACKET, *sizes])


def configuration(
    settings: BrokerSettings, addresses: list[str], largest: int, plugin: Path
) -> str:
    """Return mosquitto.conf. Its paths are relative to the broker folder; no line holds a secret.

    largest: bytes of a whole packet. mosquitto leaves out the length's bytes, which are 2 then.
    """
    listeners = [_listener(settings.port, address, 8192) for address in addresses]
    return f"""\
# Written by warden at every start of the broker: changes here are lost.
# Started by root, mosquitto would change to a user who can't enter the fleet's folder.
user {pwd.getpwuid(os.geteuid()).pw_name}
per_listener_settings false
allow_anonymous false
allow_zero_length_clientid false
plugin {plugin}
plugin_opt_config_file {REGISTRY}

# Nothing is kept: a retained or stored command would outlive the session that it was sealed for.
persistence false
retain_available false
queue_qos0_messages false
persistent_client_expiration 1h

# Nagle's algorithm would hold a reply back for the delayed ACK of the packet before it: 40 ms.
set_tcp_nodelay true

# Limits of one client.
max_packet_size {largest - 2}
max_inflight_messages 20
max_queued_messages 100
max_queued_bytes 1048576
max_keepalive 3600
sys_interval 0

# Into the pipe that warden reads.
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
connection_messages true
log_timestamp_format %Y-%m-%dT%H:%M:%S

# For devices and applications.
{"".join(listeners)}
# For the administrator, on this machine only; the client checks the certificate all the same:
# another program may listen on the port while the broker does not run.
{_listener(settings.admin_port, "127.0.0.1", 16)}"""


def _listener(port: int, address: str, most: int) -> str:
    """Return the lines of one listener; most: connections at once."""
    return f"""\
listener {port} {address}
max_connections {most}
# Behind an alias a packet is shorter here than where it is delivered.
max_topic_alias 0
certfile ../keys/server.crt
keyfile ../keys/server.key
tls_version tlsv1.2
ciphers {_CIPHERS}
"""


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


def _is_ours(address: str) -> bool:
    """Return whether this machine has the address: IPv6 may be switched off."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return True
    return False


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
                f"stop what listens there, or change broker.{key} in warden.toml",
            ) from None
