"""Who may change the broker's accounts, and to whom the administrator's password is told."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest
from host_kit import new_fleet, refused
from process_kit import PATIENCE_S
from warden_client import secretfile
from warden_host import filelock
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import broker, dynsec, registry
from warden_host.fleet import pki

ACCOUNT = device_account("relay", "D7", device_password())


class Listener:
    """Another program on the administrator's port; keeps what it receives, and counts clients."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.heard = b""
        self.accepted = 0
        self.alerts: list[str] = []
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while True:
                connection, _ = self._socket.accept()
                self.accepted += 1
                with connection:
                    connection.settimeout(PATIENCE_S)
                    try:
                        if self._context is not None:
                            connection = self._context.wrap_socket(connection, server_side=True)
                        self.heard += connection.recv(65536)
                    except ssl.SSLError as error:
                        self.alerts.append(str(error.reason))
                    except OSError:
                        pass
        except OSError:
            return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def made(tmp_path):
    return new_fleet(tmp_path)


def stranger(folder) -> ssl.SSLContext:
    """A certificate for the right name, from a CA that is not the fleet's."""
    leaf = pki.new_ca().issue(("127.0.0.1", "localhost"))
    (folder / "crt").write_bytes(leaf.certificate_pem())
    (folder / "key").write_bytes(leaf.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    return context


@pytest.mark.parametrize("tls", [False, True])
def test_another_program_on_the_port_gets_no_password(made, tmp_path, tls):
    password = secretfile.read(made.keys / registry.ADMIN_PASSWORD)
    listener = Listener(made.settings.broker.admin_port, stranger(tmp_path) if tls else None)
    try:
        with as_if_running(made), refused("unreachable"), registry.opened(made):
            pass
    finally:
        listener.close()
    # It was asked, for its certificate and for nothing else.
    assert listener.accepted > 0
    assert password not in listener.heard
    if tls:
        assert listener.heard == b""
        assert set(listener.alerts) == {"TLSV1_ALERT_UNKNOWN_CA"}
    else:
        assert listener.heard.startswith(b"\x16\x03")  # a ClientHello


@contextlib.contextmanager
def as_if_running(made):
    with filelock.try_lock(made.broker / "lock"):
        yield


def test_nothing_on_the_administrators_port(made):
    with as_if_running(made), refused("unreachable") as said, registry.opened(made):
        pass
    assert "does not answer" in str(said)


def test_an_administration_without_an_answer(made, monkeypatch):
    monkeypatch.setattr(registry, "_ANSWER_S", 0.05)
    closed, close = [], registry._Running.close
    monkeypatch.setattr(registry._Running, "close", lambda self: closed.append(close(self)))
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(made.keys / "server.crt", made.keys / "server.key")
    listener = Listener(made.settings.broker.admin_port, own)
    try:
        with as_if_running(made), refused("timed-out"), registry.opened(made):
            pass
    finally:
        listener.close()
    assert closed  # else paho would connect again for ever


@pytest.fixture
def turned_away(monkeypatch) -> threading.Event:
    """Set as soon as a caller finds the lock held, and waits."""
    found = threading.Event()
    take_lock = filelock.try_lock

    def try_lock(path):
        lock = take_lock(path)
        if lock is None and path.name == "edit.lock":
            found.set()
        return lock

    monkeypatch.setattr(filelock, "try_lock", try_lock)
    return found


def test_another_edit_is_waited_for_and_not_taken_for_the_broker(made, turned_away):
    listener = Listener(made.settings.broker.admin_port)
    opened = threading.Event()

    def edit() -> None:
        with registry.opened(made) as accounts:
            opened.set()
            turned_away.wait(PATIENCE_S)
            accounts.put(device_account("relay", "D8", device_password()))

    thread = threading.Thread(target=edit)
    thread.start()
    try:
        assert opened.wait(PATIENCE_S)
        with registry.opened(made) as accounts:
            accounts.put(ACCOUNT)
    finally:
        turned_away.set()
        thread.join(PATIENCE_S)
        listener.close()
    assert listener.accepted == 0
    text = (made.broker / dynsec.FILE).read_text()
    assert "d:relay:D7" in text
    assert "d:relay:D8" in text


def test_an_edit_that_does_not_end_is_named(made, monkeypatch):
    monkeypatch.setattr(registry, "_TURN_S", 0.2)
    with registry.exclusive_access(made):
        with refused("timed-out"), registry.opened(made):
            pass
        with refused("timed-out"):
            broker.Broker(made).start()


def test_the_broker_does_not_start_in_the_middle_of_an_edit(made, turned_away):
    begun, ended = threading.Event(), threading.Event()

    def edit() -> None:
        with registry.exclusive_access(made):
            begun.set()
            turned_away.wait(PATIENCE_S)
            ended.set()

    thread = threading.Thread(target=edit)
    thread.start()
    try:
        assert begun.wait(PATIENCE_S)
        with broker.Broker(made):
            assert ended.is_set()
            with registry.opened(made) as accounts:
                accounts.put(ACCOUNT)
    finally:
        turned_away.set()
        thread.join(PATIENCE_S)


def test_the_administrators_port_speaks_tls_alone(made):
    context = ssl.create_default_context(cafile=str(made.keys / "ca.crt"))
    with broker.Broker(made):
        address = ("127.0.0.1", made.settings.broker.admin_port)
        with (
            socket.create_connection(address, PATIENCE_S) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
        ):
            assert secured.version() in ("TLSv1.2", "TLSv1.3")
        with socket.create_connection(address, PATIENCE_S) as raw:
            raw.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")
            raw.settimeout(PATIENCE_S)
            try:
                answer = raw.recv(16)
            except ConnectionError:
                answer = b""
            assert not answer.startswith(b"\x20")  # no CONNACK


def test_passwords_where_an_application_goes_meanwhile(made, monkeypatch):
    """A running authority removes one whose devices have all been told."""
    own = registry.own_passwords(made)
    gone = made.keys / "app-gone.password"
    there = list(made.keys.glob("app-*.password"))
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [gone, *there])
    assert registry.own_passwords(made) == own
    gone.write_text("x")
    gone.chmod(0o644)
    with refused("key-permissions"):
        registry.own_passwords(made)
