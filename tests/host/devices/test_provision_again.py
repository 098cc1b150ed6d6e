"""`provision --again`: the device that is there stays whole until the new one is."""

import contextlib
import json

import pytest
from cli_kit import fails, fake
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.cli import main
from warden_host.devices import provision
from warden_host.errors import HostError
from warden_host.fleet import client_pki
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Device, Store

GOOD = "print('{\"ok\": true}')"


@pytest.fixture
def home(folder):
    assert main.run(["provision", "D1", "--sim"]) == 0
    (folder / "sim" / "D1" / "root" / "vault").write_text("all that it knows")
    return folder / "sim" / "D1"


def keys(folder):
    with Store(folder / "fleet.db") as store:
        return store.device("D1").pairs


def untouched(home) -> bool:
    return (home / "root" / "vault").read_text() == "all that it knows"


@pytest.mark.parametrize(
    "answer", ["sys.exit(1)", 'print(\'{"ok": false, "error": "bad-bundle"}\')']
)
def test_a_refused_bundle_leaves_the_old_device(
    folder, home, tmp_path, monkeypatch, capsys, answer
):
    before = keys(folder)
    fake(tmp_path, monkeypatch, answer)
    fails(capsys, "provision-failed", "provision", "D1", "--sim", "--again")
    assert untouched(home)
    assert keys(folder) == before
    fake(tmp_path, monkeypatch, GOOD)
    assert main.run(["provision", "D1", "--sim", "--again"]) == 0
    assert not (home / "root" / "vault").exists()
    assert keys(folder) != before
    assert [path.name for path in home.parent.iterdir() if path.is_dir()] == ["D1"]


def test_a_name_that_is_taken_is_no_new_device(folder, home, capsys):
    fails(capsys, "device-exists", "provision", "D1", "--sim")
    assert untouched(home)
    assert not home.with_name(".D1.new").exists()  # no device was told anything


def test_a_refused_account_leaves_the_old_device(folder, home, monkeypatch, capsys):
    before = keys(folder)

    def refuse(*_: object) -> None:
        raise HostError("broker-refused", "createClient: no")

    with monkeypatch.context() as patched:
        patched.setattr(registry._Stopped, "put", refuse)
        fails(capsys, "broker-refused", "provision", "D1", "--sim", "--again")
        fails(capsys, "broker-refused", "provision", "D2", "--sim")
    assert untouched(home)
    assert keys(folder) == before
    assert not (home.parent / "D2").exists()


def test_a_swap_that_was_cut_off_is_taken_back(folder, home):
    home.rename(home.with_name(".D1.old"))
    assert main.run(["provision", "D1", "--sim", "--again"]) == 0
    assert (home / "root" / "main.py").is_file()
    assert [path.name for path in home.parent.iterdir() if path.is_dir()] == ["D1"]


def test_a_swap_that_was_cut_off_and_then_fails_again(folder, home, monkeypatch):
    """The old device comes back to its place."""
    home.rename(home.with_name(".D1.old"))
    monkeypatch.setattr(type(home), "rename", fails_from(home.with_name(".D1.new")))
    assert main.run(["provision", "D1", "--sim", "--again"]) != 0
    assert untouched(home)


def fails_from(source):
    """`Path.rename` that fails for this folder, as where the process is cut there."""
    rename = type(source).rename

    def renamed(path, target):
        if path == source:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    return renamed


def test_a_swap_that_was_cut_off_at_its_end(folder, home):
    """Both folders are there: the old one is of no more use."""
    old = home.with_name(".D1.old")
    (old / "root").mkdir(parents=True)
    (old / "root" / "vault").write_text("an older one")
    assert main.run(["provision", "D1", "--sim", "--again"]) == 0
    assert not old.exists()
    assert [path.name for path in home.parent.iterdir() if path.is_dir()] == ["D1"]


def test_files_that_can_not_be_written_leave_nothing(folder, home, monkeypatch):
    def full(_tree, fresh, *_):
        (fresh / "root").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provision.device_files, "write_files", full)
    assert main.run(["provision", "D1", "--sim", "--again"]) != 0
    assert untouched(home)
    assert [path.name for path in home.parent.iterdir() if path.is_dir()] == ["D1"]


def test_fleet_db_is_free_while_the_broker_is_asked(folder, home, free_at_the_broker):
    assert main.run(["provision", "D1", "--sim", "--again", "--type", "lock"]) == 0
    assert free_at_the_broker == ["remove", "put"]


def accounts(folder) -> list[str]:
    document = json.loads((folder / "broker" / dynsec.FILE).read_text())
    return [name for one in document["clients"] if (name := one["username"]).startswith("d:")]


def test_no_account_without_a_record(folder, home, monkeypatch, capsys):
    """The store fails last: the new secret can't log in, and the name is free to try again."""

    def full(*_: object) -> None:
        raise HostError("database-damaged", "fleet.db: database or disk is full")

    before = keys(folder)
    assert accounts(folder) == ["d:relay:D1"]
    with monkeypatch.context() as patched:
        patched.setattr(Store, "add_device", full)
        fails(capsys, "database-damaged", "provision", "D1", "--sim", "--again")
        fails(capsys, "database-damaged", "provision", "D2", "--sim")
    assert accounts(folder) == []
    assert keys(folder) == before
    assert untouched(home)
    assert main.run(["provision", "D2", "--sim"]) == 0
    assert main.run(["provision", "D1", "--sim", "--again"]) == 0
    assert sorted(accounts(folder)) == ["d:relay:D1", "d:relay:D2"]


def test_a_name_that_was_given_while_the_turn_was_waited_for(folder, monkeypatch, capsys):
    opened = registry.opened

    @contextlib.contextmanager
    def late(fleet):
        with opened(fleet) as turn:
            with Store(fleet.database) as store:
                store.add_device(Device("D2", "relay", "UNIX", "sealed", b"theirs"))
            yield turn

    monkeypatch.setattr(provision, "open_registry", late)
    fails(capsys, "device-exists", "provision", "D2", "--sim")
    with Store(folder / "fleet.db") as store:
        assert store.device("D2").policy == b"theirs"
    assert accounts(folder) == []


@pytest.mark.parametrize("lost", [False, True])
def test_a_certificate_is_known_before_the_device_has_it(folder, lost):
    """A device whose answer was lost may have installed it: it can be revoked all the same."""
    with (folder / "warden.toml").open("a") as file:
        file.write('[connection]\nauth = "certificate"\n')
    fleet = Fleet(folder)
    client_pki.create(fleet)
    order = provision.Order("C1", "lock")
    seen: list[int] = []

    with Store(fleet.database) as store:

        def send(*_: object) -> None:
            seen.append(len(store.valid_certificates("C1")))
            if lost:
                raise HostError("unreachable", "the cable is out")

        with contextlib.suppress(HostError):
            provision.provision_board(fleet, store, order, send)
        assert seen == [1]
        assert len(store.certificates("C1")) == 1
        assert len(store.valid_certificates("C1")) == (0 if lost else 1)
