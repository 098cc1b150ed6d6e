"""Backups of a fleet: made while it is served, checked, restored, and everything in between."""

import io
import json
import os
import socket
import tarfile
import threading
from contextlib import ExitStack
from dataclasses import replace

import pytest
from cli_kit import fails
from engine_kit import SEALED
from host_kit import new_fleet, refused
from warden_host import folders
from warden_host.backup import age, archive, backup
from warden_host.backup.backup import Key, Lock
from warden_host.broker.accounts import device_account
from warden_host.broker.backend import open_registry
from warden_host.cli import main
from warden_host.control_client import short_path
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.service import console, kept_sessions
from warden_host.store import schema
from warden_host.store.held import HeldCommand
from warden_host.store.store import Store

PASSPHRASE = b"correct horse battery"
LOCK, KEY = Lock(passphrase=PASSPHRASE, work=4), Key(passphrase=PASSPHRASE)


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    made = new_fleet(tmp_path)
    with Store(made.database) as store:
        store.add_device(SEALED)
        store.reserve_sequence("relay-1.0", "relay", "1.0", None, b"c" * 16)
    with open_registry(made) as accounts:
        accounts.put(device_account("relay", "D1", "p" * 20))
    (made.root / "releases" / "relay-1.0").mkdir(parents=True, mode=0o700)
    (made.root / "releases" / "relay-1.0" / "image").write_bytes(os.urandom(200_000))
    (made.root / "mail-ca.pem").write_text("a CA of the owner's own")
    (made.root / "sim" / "D1").mkdir()
    (made.root / "sim" / "D1" / "secret").write_text("of a device")
    return made


def content(root) -> dict[str, bytes]:
    """What lies in a folder: name → bytes."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_what_a_running_service_has_open_is_left_out(fleet, tmp_path):
    with ExitStack() as opened:
        for path in (fleet.control, fleet.root / console.SOCKET):
            listener = opened.enter_context(socket.socket(socket.AF_UNIX))
            with short_path(path) as short:
                listener.bind(short)
        kept_sessions.put(fleet.root, [])
        backup.make(fleet, tmp_path / "fleet.age", LOCK)
    backup.restore(tmp_path / "fleet.age", KEY, tmp_path / "restored")
    here = {path.name for path in (tmp_path / "restored").iterdir()}
    assert "mail-ca.pem" in here
    assert not here & {"control.sock", console.SOCKET, kept_sessions.FILE}


def test_a_restored_fleet_is_the_fleet(fleet, tmp_path):
    path, into = tmp_path / "fleet.age", tmp_path / "restored"
    about = backup.make(fleet, path, LOCK)
    assert path.stat().st_mode & 0o777 == 0o600
    for secret in (
        b"PRIVATE KEY",
        SEALED.pairs[0].k,
        (fleet.keys / "admin.password").read_bytes(),
    ):
        assert secret not in path.read_bytes()
    found = backup.check(path, KEY)
    assert (found.about, found.devices) == (about, 1)
    assert backup.restore(path, KEY, into) == about
    was, is_ = content(fleet.root), content(into)
    for name in ("sim/D1/secret", "broker/lock", "broker/edit.lock"):
        assert was.pop(name) is not None
    for name in list(was):
        if name.startswith("fleet.db"):
            was.pop(name)
    database = [name for name in is_ if name.startswith("fleet.db")]
    assert {name: is_[name] for name in is_ if name not in database} == was
    for path in into.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    restored = Fleet(into)
    with Store(restored.database) as store, Store(fleet.database) as before:
        assert store.devices() == before.devices()
        assert store.backup_state().done == 0, "a copy is no backup of itself"
        assert before.backup_state().done == 1


def test_numbers_go_on_above_those_of_the_lost_host(fleet, tmp_path):
    path = tmp_path / "fleet.age"
    backup.make(fleet, path, LOCK)
    with Store(fleet.database) as store:
        for _ in range(5):  # by the host that is lost
            with store.transaction():
                lost = store.add_rotation("D1", {"password": b"x"}).body["id"]
            store.end_rotation("D1")
        sequence = store.reserve_sequence("relay-1.1", "relay", "1.1", None, None).sequence
    backup.restore(path, KEY, tmp_path / "restored")
    with Store(tmp_path / "restored" / "fleet.db") as store:
        with store.transaction():
            assert store.add_rotation("D1", {"password": b"x"}).body["id"] > lost
        assert store.reserve_sequence("relay-2.0", "relay", "2.0", None, None).sequence > sequence
        assert store.epoch() == 1


def test_what_the_lost_host_may_have_done_is_not_done_again(fleet, tmp_path):
    path, into = tmp_path / "fleet.age", tmp_path / "restored"
    held = HeldCommand(7, "D1", "home", "unlock", {}, 4e9)
    with Store(fleet.database) as store:
        store.add_held_command(held)
        rollout = store.add_rollout("relay-1.0", 1, {}, {"D1": 0})
    backup.make(fleet, path, LOCK)
    with Store(fleet.database) as store:
        assert (store.held_commands(), store.rollout(rollout).state) == ([held], "active")
    backup.restore(path, KEY, into)
    with Store(into / "fleet.db") as store:
        assert store.held_commands() == [replace(held, sent=True)], "it would be executed twice"
        assert store.rollout(rollout).state == "stopped"


def test_a_backup_is_durable_before_secrets_go_for_it(fleet, tmp_path, monkeypatch):
    done: list = []
    monkeypatch.setattr(folders, "sync_folder", lambda path: done.append(path))
    with Store(fleet.database) as store:
        monkeypatch.setattr(type(store), "complete_backup", lambda *_: done.append("recorded"))
    backup.make(fleet, tmp_path / "fleet.age", LOCK)
    assert done == [tmp_path, "recorded"]


def test_it_is_one_moment_of_a_fleet_that_changes(fleet, tmp_path):
    """An account without its device, or a device without its account, would be half a fleet."""
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.is_set():
            number += 1
            with Store(fleet.database) as store, open_registry(fleet) as accounts:
                accounts.put(device_account("relay", f"N{number}", "p" * 20))
                store.add_device(replace(SEALED, device=f"N{number}"))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for number in range(5):
            backup.make(fleet, tmp_path / f"{number}.age", LOCK)
    finally:
        over.set()
        thread.join()
    for number in range(5):
        into = tmp_path / f"restored {number}"
        backup.restore(tmp_path / f"{number}.age", KEY, into)
        registry = json.loads((into / "broker" / "dynamic-security.json").read_bytes())
        names = {one["username"].split(":")[-1] for one in registry["clients"]}
        with Store(into / "fleet.db") as store:
            devices = set(store.names())
        assert devices - {"D1"} == {name for name in names if name.startswith("N")}


def test_nothing_is_left_of_what_failed(fleet, tmp_path, monkeypatch):
    path, into = tmp_path / "fleet.age", tmp_path / "restored"

    def full(*_):
        raise OSError(28, "No space left on device")

    before = sorted(os.listdir(fleet.root))
    with monkeypatch.context() as patch:
        patch.setattr(archive.ArchiveWriter, "close", full)
        with pytest.raises(OSError, match="No space"):
            backup.make(fleet, path, LOCK)
    assert sorted(os.listdir(fleet.root)) == before
    assert sorted(os.listdir(tmp_path)) == ["fleet"]
    with Store(fleet.database) as store:
        assert store.backup_state().done == 0
    backup.make(fleet, path, LOCK)
    path.write_bytes(path.read_bytes()[:-100])
    for work in (lambda: backup.restore(path, KEY, into), lambda: backup.check(path, KEY)):
        with refused("backup-damaged"):
            work()
    assert sorted(os.listdir(tmp_path)) == ["fleet", "fleet.age"]


def test_a_folder_in_use_is_not_overwritten(fleet, tmp_path):
    path, into = tmp_path / "fleet.age", tmp_path / "restored"
    backup.make(fleet, path, LOCK)
    into.mkdir()
    (into / "mine").touch()
    with refused("fleet-exists"):
        backup.restore(path, KEY, into)
    (into / "mine").unlink()
    backup.restore(path, KEY, into)
    with refused("filesystem"):
        backup.make(fleet, path, LOCK)


def test_no_backup_lies_in_the_next_one(fleet):
    for folder in (fleet.root, fleet.root / "releases", fleet.root / "keys" / ".."):
        with refused("bad-argument"):
            backup.make(fleet, folder / "fleet.age", LOCK)


def test_a_link_in_the_folder_is_refused(fleet, tmp_path):
    (fleet.keys / "elsewhere").symlink_to(tmp_path)
    with refused("filesystem"):
        backup.make(fleet, tmp_path / "fleet.age", LOCK)


def test_what_is_no_file_is_refused(fleet, tmp_path):
    os.mkfifo(fleet.keys / "pipe")
    with refused("filesystem"):
        backup.make(fleet, tmp_path / "fleet.age", LOCK)


def test_a_folder_that_can_not_be_listed_is_not_left_out(fleet):
    fleet.root.rename(fleet.root.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError):
        list(archive.members(fleet, releases=True))


# Archives by someone who has the passphrase, or by a newer Warden


ABOUT = {"format": 1, "database": schema.FORMAT, "made": 1, "number": 1}


def forged(path, *entries: tarfile.TarInfo, about: dict | bytes = ABOUT, cut: int = 0) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        text = about if isinstance(about, bytes) else json.dumps(about).encode()
        first = tarfile.TarInfo(archive.DESCRIPTION)
        first.size = len(text)
        tar.addfile(first, io.BytesIO(text))
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    with path.open("wb") as file:
        writer = age.Writer(file, passphrase=PASSPHRASE, work=4)
        writer.write(plain.getvalue()[: len(plain.getvalue()) - cut])
        writer.close()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "bad",
    [
        entry("../keys/server.key"),
        entry("/etc/passwd"),
        entry("keys/../../x"),
        entry("keys//x"),
        entry("keys/\x1b[2J"),
        entry("keys/link", tarfile.SYMTYPE, "/etc"),
        entry("keys/hard", tarfile.LNKTYPE, "backup.json"),
        entry("keys/pipe", tarfile.FIFOTYPE),
        entry("keys", tarfile.DIRTYPE),
        entry("keys/sparse", tarfile.GNUTYPE_SPARSE),
        entry(archive.DESCRIPTION),
    ],
    ids=lambda bad: repr(bad.name),
)
def test_no_name_leaves_the_folder(tmp_path, bad):
    path = tmp_path / "forged.age"
    forged(path, entry("warden.toml"), bad)
    with pytest.raises(HostError, match="can't be used: it holds '") as found:
        backup.restore(path, KEY, tmp_path / "restored")
    assert found.value.code == "backup-damaged"
    assert os.listdir(tmp_path) == ["forged.age"]


def test_a_name_of_a_thousand_bytes_is_safe():
    assert archive.is_safe("/".join(["x" * 249] * 4))
    assert not archive.is_safe("/".join(["x" * 250] * 4))


@pytest.mark.parametrize(
    "about",
    [
        b"",
        b"[]",
        b"{",
        {},
        ABOUT | {"format": 2},
        ABOUT | {"database": schema.FORMAT + 1},
        ABOUT | {"made": "x"},
    ],
    ids=repr,
)
def test_another_description_is_refused(tmp_path, about):
    path = tmp_path / "forged.age"
    forged(path, about=about)
    for work in (
        lambda: backup.check(path, KEY),
        lambda: backup.restore(path, KEY, tmp_path / "r"),
    ):
        with refused("backup-damaged") as found:
            work()
        assert "fleet.db" not in str(found)  # which it lacks as well


def test_an_archive_without_a_fleet_is_refused(tmp_path):
    path = tmp_path / "forged.age"
    forged(path)
    for work in (
        lambda: backup.check(path, KEY),
        lambda: backup.restore(path, KEY, tmp_path / "r"),
    ):
        with refused("backup-damaged"):
            work()
    forged(path, cut=9000)
    with refused("backup-damaged"):
        backup.check(path, KEY)
    damaged = entry("fleet.db")
    damaged.size = 4096
    forged(path, damaged)
    with refused("backup-damaged"):
        backup.check(path, KEY)


def long(name: str, size: int = 20_000, **pax: str) -> tarfile.TarInfo:
    made = entry(name)
    made.size, made.pax_headers = size, pax
    return made


@pytest.mark.parametrize(
    ("entries", "cut", "said"),
    [
        ([long("warden.toml")], 20_000, "no whole archive"),
        ([long("warden.toml", 0, comment="x" * 100_000)], 0, "a header of it is too long"),
        ([entry("x" * 100_000)], 0, "a header of it is too long"),
        ([long("keys/x", **{"GNU.sparse.map": "x"})], 0, "no whole archive"),
        (
            [long("keys/x", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})],
            0,
            "no whole archive",
        ),
        ([entry("keys/x", tarfile.GNUTYPE_LONGNAME)] * 200, 0, "a header of it is too long"),
    ],
    ids=["cut", "comment", "name", "sparse map", "sparse data", "names of names"],
)
def test_a_damaged_archive_is_refused(tmp_path, entries, cut, said):
    path = tmp_path / "forged.age"
    forged(path, *entries, cut=cut)
    for work in (
        lambda: backup.check(path, KEY),
        lambda: backup.restore(path, KEY, tmp_path / "r"),
    ):
        with refused("backup-damaged") as found:
            work()
        assert said in str(found)
    assert os.listdir(tmp_path) == ["forged.age"]


def test_an_archive_that_holds_too_much_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "forged.age"
    forged(path, long("warden.toml"), entry("fleet.db"))
    for limit, most in (("MOST_BYTES", 19_999), ("_MOST_FILES", 2)):
        with monkeypatch.context() as patched, refused("backup-damaged") as found:
            patched.setattr(archive, limit, most)
            backup.check(path, KEY)
        assert "too much" in str(found)


def test_a_description_that_is_too_long_is_refused(tmp_path):
    path = tmp_path / "forged.age"
    forged(path, about=json.dumps(ABOUT | {"x": "y" * 70_000}).encode())
    with refused("backup-damaged") as found:
        backup.check(path, KEY)
    assert "description is too long" in str(found)


@pytest.mark.parametrize(
    ("names", "said"), [(["warden.toml", archive.DESCRIPTION], "what it is"), ([], "empty")]
)
def test_an_archive_without_a_description_is_refused(names, said):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name in names:
            tar.addfile(entry(name), io.BytesIO())
    plain.seek(0)
    with refused("backup-damaged") as found:
        list(archive.read(plain))
    assert said in str(found)


# The command line


def test_the_operators_way(folder, tmp_path, capsys):
    assert main.run(["provision", "D1", "--sim"]) == 0
    passphrase = tmp_path / "passphrase"
    passphrase.write_bytes(PASSPHRASE + b"\n")
    passphrase.chmod(0o600)
    assert main.run(["backup", "key", "key.txt", "--json"]) == 0
    recipient = json.loads(capsys.readouterr().out.splitlines()[-1])["recipient"]
    assert main.run(["backup", "a.age", "--to", recipient]) == 0
    assert main.run(["backup", "check", "a.age", "--key-file", "key.txt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["ok"], found["devices"], found["fleet"]) == (True, 1, "fleet")
    fails(capsys, "backup-key", "backup", "check", "a.age")
    assert main.run(["backup", "key", "other.txt"]) == 0
    fails(capsys, "backup-key", "backup", "check", "a.age", "--key-file", "other.txt")
    restore = ["restore", "a.age", "--into", "again", "--key-file", "key.txt"]
    assert main.run(restore) == 0
    with Store(tmp_path / "again" / "fleet.db") as store:
        assert [row.action.split()[0] for row in store.latest_audit_rows(2)] == ["restore"] * 2
    assert "revoke again" in capsys.readouterr().out
    fails(capsys, "fleet-exists", *restore)
    assert main.run(["--fleet", "again", "devices", "--json"]) == 0
    assert '"device": "D1"' in capsys.readouterr().out
    assert main.run(["backup", "b.age", "--passphrase-file", str(passphrase)]) == 0
    fails(capsys, "backup-key", "backup", "check", "b.age", "--key-file", "passphrase")
    passphrase.write_bytes(b"short")
    fails(capsys, "passphrase-wrong", "backup", "c.age", "--passphrase-file", str(passphrase))
    fails(
        capsys, "passphrase-wrong", "backup", "check", "b.age", "--passphrase-file", "passphrase"
    )
    (tmp_path / "d.age").write_bytes(b"no backup")
    fails(capsys, "backup-damaged", "backup", "check", "d.age")
