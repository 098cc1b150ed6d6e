"""Two commands at once, full disks and limits: each ends in a named error with an advice."""

import errno
import shutil
import sqlite3
import threading

import pytest
from cli_kit import fails, fake, said
from host_kit import refused
from process_kit import PATIENCE_S
from warden_host import errors, filelock
from warden_host.cli import main, refusals
from warden_host.devices import bundle, device_files, provision, setup
from warden_host.errors import HostError, filesystem_error
from warden_host.fleet import fleet
from warden_host.fleet.fleet import Fleet
from warden_host.store import schema
from warden_host.store.store import Store

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_of_two_provisions_of_one_name_one_makes_the_device(folder, tmp_path, monkeypatch):
    """The second one waits until the first one's device has its bundle."""
    go, inside, waits = tmp_path / "go", tmp_path / "inside", threading.Event()
    fake(
        tmp_path,
        monkeypatch,
        f"import os, time\nopen({str(inside)!r}, 'a').write('x')\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\nprint('{{\"ok\": true}}')",
    )
    real, ends = filelock.try_lock, {}

    def take_lock(path):
        lock = real(path)
        if lock is None and path.name == "D1.new.lock":
            waits.set()
        return lock

    monkeypatch.setattr(filelock, "try_lock", take_lock)

    def make(name: str) -> None:
        made = Fleet(folder)
        try:
            with Store(made.database) as store:
                provision.provision(made, store, provision.Order("D1", "relay"))
            ends[name] = "made"
        except HostError as error:
            ends[name] = error.code

    threads = [threading.Thread(target=make, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    seen = waits.wait(PATIENCE_S)
    go.touch()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert seen
    assert sorted(ends.values()) == ["device-exists", "made"]
    assert inside.read_text() == "x"  # no second device was told anything
    assert (folder / "sim" / "D1" / "root" / "main.py").is_file()


def test_a_provision_that_hangs_is_named(folder, monkeypatch, capsys):
    monkeypatch.setattr(provision, "_TURN_S", 0.0)
    with filelock.try_lock(folder / "sim" / "D1.new.lock"):
        fails(capsys, "timed-out", "provision", "D1", "--sim")
        assert main.run(["provision", "D2", "--sim"]) == 0  # another name is free


def test_of_two_inits_of_one_folder_one_makes_the_fleet(tmp_path, monkeypatch):
    """The other one came between the look at the folder and the making."""
    real = fleet._check

    def check(settings):
        real(settings)
        (tmp_path / "new" / "keys").mkdir(parents=True)

    monkeypatch.setattr(fleet.Path, "iterdir", lambda _: iter(()))
    monkeypatch.setattr(fleet, "_check", check)
    settings = fleet.Settings(fleet.BrokerSettings(), ("set_relay",))
    with refused("fleet-exists"):
        setup.new_fleet(tmp_path / "new", settings)


# A full disk


@pytest.mark.parametrize("at", ["library", "application"])
def test_a_full_disk_is_reported_in_words(folder, tmp_path, monkeypatch, capsys, at):
    source = tmp_path / "app"
    source.mkdir()
    (source / "app.py").touch()

    def fail(*_: object) -> None:
        raise FULL

    if at == "library":
        monkeypatch.setattr(shutil, "copyfile", fail)
    else:
        monkeypatch.setattr(device_files.image, "content", fail)
    assert main.run(["provision", "D1", "--sim", "--source", str(source)]) == 1
    said_ = capsys.readouterr().err
    assert "filesystem  No space left on device\n" in said_
    assert "→ free some space" in said_
    assert "(" not in said_  # no tuples
    assert not (folder / "sim" / ".D1.new").exists()  # nothing that goes on filling it


@pytest.mark.parametrize(
    ("error", "text", "hint"),
    [
        (OSError(errno.ENOSPC, "full", "a"), "full: a", "free some space"),
        (OSError(errno.EDQUOT, "quota", "a"), "quota: a", "free some space"),
        (PermissionError(errno.EACCES, "denied", "a"), "denied: a", "owner"),
        (OSError(errno.EIO, "broken", "a"), "broken: a", "look at the file"),
        (shutil.Error([("a", "b", "why")]), "Error", "look at the file"),
    ],
)
def test_errors_of_the_filesystem(error, text, hint):
    told = filesystem_error(error)
    assert (told.code, told.text) == ("filesystem", text)
    assert hint in told.hint


# What provisioning takes is what a release takes


@pytest.mark.parametrize(
    "spoil",
    [
        lambda app: (app / "link").symlink_to("/etc/passwd"),
        lambda app: (app / "linked").symlink_to(app.parent),
        lambda app: (app / "sub").mkdir() or (app / "sub" / "link").symlink_to("/etc/passwd"),
        lambda app: (app / "é.py").touch(),
    ],
    ids=["a link", "a linked folder", "a link further down", "not ascii"],
)
def test_a_source_that_no_release_accepts(folder, tmp_path, capsys, spoil):
    source = tmp_path / "app"
    source.mkdir()
    (source / "app.py").touch()
    spoil(source)
    fails(capsys, "image-failed", "provision", "D1", "--sim", "--source", str(source))
    assert not (folder / "sim" / "D1").exists()


def test_a_source_that_is_a_link(folder, tmp_path, capsys):
    (tmp_path / "app.py").symlink_to("/etc/passwd")
    fails(capsys, "image-failed", "provision", "D1", "--sim", "--source", str(tmp_path / "app.py"))


def test_a_source_is_copied_as_a_release_holds_it(folder, tmp_path):
    source = tmp_path / "app"
    (source / "sub").mkdir(parents=True)
    for name in ("app.py", "sub/one.py", ".git", "sub/two.pyc"):
        (source / name).write_text(name)
    assert main.run(["provision", "D1", "--sim", "--source", str(source)]) == 0
    app = folder / "sim" / "D1" / "root" / "app"
    found = {path.relative_to(app).as_posix(): path for path in app.rglob("*") if path.is_file()}
    assert sorted(found) == ["app.py", "sub/one.py"]
    assert all(path.read_text() == name for name, path in found.items())


# More than a device takes


def add(number: int, *options: str) -> list[str]:
    return ["app", "add", f"a{number}", "--type", "lock", "--command", "x", *options]


def test_the_eighth_application_of_a_type_is_reported_at_once(folder, capsys):
    assert bundle.MAX_APPS == 8  # the authority is one of them
    for number in range(7):
        assert main.run(add(number)) == 0
    assert "more applications" not in capsys.readouterr().out
    assert main.run(["provision", "D1", "--type", "lock", "--sim"]) == 0
    capsys.readouterr()
    assert main.run(add(7, "--type", "door")) == 0
    assert "more applications serve lock than the 7 that a device takes" in capsys.readouterr().out
    assert main.run(add(8, "--json")) == 0
    assert said(capsys)["above_limit"] == ["lock"]
    fails(capsys, "bad-argument", "provision", "D2", "--type", "lock", "--sim")
    assert main.run(["provision", "D2", "--type", "lock", "--sim"]) == 2
    assert "name the applications" in capsys.readouterr().err
    assert main.run(["provision", "D2", "--type", "lock", "--sim", "--app", "a8"]) == 0


def test_too_many_commands_are_refused_at_once(folder, tmp_path, capsys):
    commands = [word for number in range(33) for word in ("--command", f"c{number}")]
    fails(capsys, "bad-argument", "app", "add", "home", "--type", "lock", *commands)
    fails(capsys, "bad-argument", "init", str(tmp_path / "other"), *commands)
    assert not (tmp_path / "other").exists()
    assert main.run(["app", "add", "home", "--type", "lock", *commands[2:]]) == 0
    assert main.run(["provision", "D1", "--type", "lock", "--sim"]) == 0


# Advice


def test_every_error_of_the_tools_has_a_hint(repo):
    device = (repo / "lib/warden/errors.py").read_text()
    own = [code for code in sorted(errors.CODES) if f'"{code}"' not in device]
    assert len(own) > 40
    assert [code for code in own if len(HostError(code, "text").hint) < 12] == []
    assert HostError("device-unknown", "text", "this").hint == "this"


def test_every_refusal_of_a_device_has_an_advice():
    for code, (means, do) in refusals._REFUSALS.items():
        assert len(means) > 12, code
        assert len(do) > 12, code
        assert "nothing" not in do.split()[0]


def test_a_newer_database_is_reported_as_one(folder, capsys):
    for version, words in ((schema.FORMAT + 1, "newer Warden"), (-1, "restore")):
        with sqlite3.connect(folder / "fleet.db") as database:
            database.execute(f"PRAGMA user_version = {version}")
        fails(capsys, "database-damaged", "devices")
        main.run(["devices"])
        told = capsys.readouterr().err
        assert words in told
        assert "disk full" not in told


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_FULL, "free some space"),
        (sqlite3.SQLITE_BUSY, "another `warden`"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "another `warden`"),
        (sqlite3.SQLITE_READONLY, "owner"),
        (sqlite3.SQLITE_IOERR_READ, "look at the disk"),
        (sqlite3.SQLITE_NOTADB, "backup"),
    ],
)
def test_errors_of_the_database(folder, monkeypatch, code, words):
    error = sqlite3.OperationalError("words of SQLite")
    error.sqlite_errorcode = code
    with Store(folder / "fleet.db") as store:

        def fail(*_: object) -> None:
            raise error

        store._db = type("Db", (), {"execute": fail, "close": store._db.close})()
        with pytest.raises(HostError) as caught:
            store.devices()
    assert caught.value.code == "database-damaged"
    assert words in caught.value.hint
