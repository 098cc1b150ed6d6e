"""The fleet folder: who may read it, and what damaged settings are called."""

import stat
from pathlib import Path

import pytest
from host_kit import new_fleet, refused
from warden_client import secretfile
from warden_host.alarms import settings as alarm_settings
from warden_host.broker import connection
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.devices import setup
from warden_host.errors import HostError
from warden_host.fleet import fleet
from warden_host.store import store
from warden_host.store.store import App


@pytest.fixture
def made(tmp_path: Path) -> fleet.Fleet:
    return new_fleet(tmp_path)


def test_other_users_cannot_read_the_fleet(made):
    assert stat.S_IMODE(made.root.stat().st_mode) == 0o700
    for path in made.root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_fleet_is_not_made_twice(made, tmp_path):
    with pytest.raises(HostError, match="is a fleet already") as told:
        fleet.create(made.root, made.settings)
    assert told.value.code == "fleet-exists"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with refused("fleet-exists"):
        fleet.create(tmp_path / "full", made.settings)
    with refused("fleet-exists"):
        fleet.create(tmp_path / "full" / "file", made.settings)


def test_a_fleet_that_another_process_makes_meanwhile_is_left_alone(made, tmp_path, monkeypatch):
    real = Path.chmod

    def chmod(path, mode):
        real(path, mode)
        (path / "keys").mkdir()

    monkeypatch.setattr(Path, "chmod", chmod)
    with refused("fleet-exists"):
        fleet.create(tmp_path / "new", made.settings)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["keys"]


def test_it_is_found_upward(made, monkeypatch, tmp_path):
    inside = made.root / "sim"
    monkeypatch.chdir(inside)
    assert fleet.find(None).root == made.root
    monkeypatch.chdir(tmp_path)
    assert fleet.find(None).root == made.root  # ./fleet
    monkeypatch.chdir("/")
    with refused("fleet-missing"):
        fleet.find(None)
    assert fleet.find(made.root).settings == made.settings


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("format = 1", "format = 2"),
        ("format = 1", "format = "),
        ("[broker]", "[brokers]"),
        ('listen = "127.0.0.1"', 'listen = "127.0.0.1\\nuser root"'),
        ('host = "127.0.0.1"', "host = 1"),
        ('host = "127.0.0.1"', 'host = ""'),
        ("port = ", "port = 1"),
        ("port = ", "port = 0 #"),
        ("port = ", "port = 65536 #"),
        ("port = ", "port = " + "1" * 5000),
        ("names = [", "names = " + "[" * 5000),
        ("names = [", 'names = "localhost"\nservers = ['),
        ("[authority]", "[otp]"),
        ("port = ", "port = true #"),
        ("names = [", "names = [1, "),
        ("commands = [", 'comands = ["a", '),
    ],
)
def test_damaged_settings(made, old, new):
    path = made.root / fleet.CONFIG
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with refused("config-malformed"):
        fleet.Fleet(made.root)


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("[conection]\n", "the file has an unknown key, 'conection': did you mean connection?"),
        ("[nothing]\n", "the file has an unknown key, 'nothing'"),
        ("sever = []\n", "[authority] has an unknown key, 'sever'"),
        ("[otp.mial]\n", "[otp] has an unknown key, 'mial': did you mean mail?"),
        ("[alarms]\nmial = []\n", "[alarms] has an unknown key, 'mial': did you mean mail?"),
        (
            '[connection]\nauht = "token"\n',
            "[connection] has an unknown key, 'auht': did you mean auth?",
        ),
        (
            '[connection.type.lock]\nauthh = "token"\n',
            "[connection.type.lock] has an unknown key, 'authh': did you mean auth?",
        ),
    ],
)
def test_a_misspelt_key_is_told_with_the_nearest(made, added, told):
    path = made.root / fleet.CONFIG
    path.write_text(path.read_text() + added)
    with pytest.raises(HostError) as error:
        again = fleet.Fleet(made.root)
        connection.load(again)
        alarm_settings.load(again)
    assert error.value.code == "config-malformed"
    assert error.value.text == f"warden.toml: {told}"


def test_settings_that_are_too_long_are_not_cut(made):
    path = made.root / fleet.CONFIG
    path.write_text(path.read_text() + "#" * (1 << 20))
    with pytest.raises(HostError, match="1048576 bytes") as told:
        fleet.Fleet(made.root)
    assert told.value.code == "config-malformed"


def test_settings_may_not_grant_what_is_reserved(made):
    path = made.root / fleet.CONFIG
    path.write_text(path.read_text().replace('"set_relay"', '"wipe"'))
    with refused("reserved-command"):
        fleet.Fleet(made.root)


def test_two_listeners_need_two_ports(tmp_path):
    broker = fleet.BrokerSettings(port=5000, device_port=5000, admin_port=5000)
    with refused("config-malformed"):
        fleet.create(tmp_path / "f", fleet.Settings(broker, ()))
    assert not (tmp_path / "f").exists()


def test_a_folder_that_others_can_enter_is_refused(made):
    made.root.chmod(0o750)
    with refused("key-permissions"):
        fleet.Fleet(made.root)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_can_touch_is_refused(made, mode):
    path = made.keys / "app-authority.password"
    path.chmod(mode)
    with refused("key-permissions"):
        made.app_password("authority")


def test_a_key_that_is_gone_or_a_link_is_refused(made, tmp_path):
    path = made.keys / "app-authority.password"
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    with refused("key-missing"):
        made.app_password("authority")
    path.symlink_to(elsewhere)
    with refused("key-permissions"):
        made.app_password("authority")
    with refused("bad-name"):
        made.app_password("../x")
    with refused("bad-name"):
        made.simulated("../x")


def test_a_secret_is_replaced_whole(tmp_path):
    path = tmp_path / "key"
    secretfile.write(path, b"one")
    secretfile.write(path, b"two")
    assert secretfile.read(path) == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_applications_are_registered_once(made):
    with store.Store(made.database) as known:
        setup.add_app(made, known, App("lights", ("relay",), ("set_relay",)))
        assert known.apps() == [App("lights", ("relay",), ("set_relay",))]
        password = made.app_password("lights")
        with refused("app-exists"):
            setup.add_app(made, known, App("lights", ("relay",), ("set_relay",)))
        with refused("app-exists"):
            setup.add_app(made, known, App("authority", ("relay",), ("set_relay",)))
        assert made.app_password("lights") == password
        for entry, code in (
            (App("a/b", ("relay",), ("x",)), "bad-name"),
            (App("a", ("+",), ("x",)), "bad-name"),
            (App("a", ("relay",), ("X",)), "bad-name"),
            (App("a", ("relay",), ("update",)), "reserved-command"),
            (App("a", ("relay",), ()), "bad-argument"),
            (App("a", (), ("x",)), "bad-argument"),
        ):
            with refused(code):
                setup.add_app(made, known, entry)
        assert len(known.apps()) == 1


def test_the_registry_keeps_only_hashes(made):
    password = device_password()
    account = device_account("relay", "D1", password)
    assert password not in repr(account)
    with registry.opened(made) as accounts:
        accounts.put(account)
        accounts.put(account)
    text = (made.broker / dynsec.FILE).read_text()
    assert text.count('"d:relay:D1"') == 2  # one user name, one client ID
    for secret in (password, made.app_password("authority").decode()):
        assert secret not in text


def test_a_damaged_registry(made):
    path = made.broker / dynsec.FILE
    good = path.read_text()
    for bad in (
        "",
        "[]",
        "{}",
        good[:-5],
        "[" * 100_000,
        good.replace('"clients": [', '"clients": ["D1", '),
        good.replace('"roles": [', '"roles": [null, '),
        good.replace('"subscribe": false', '"subscribe": true'),
    ):
        path.write_text(bad)
        with refused("registry-damaged"), registry.opened(made) as accounts:
            accounts.remove("d:relay:D1", "device:relay:D1")


def test_device_passwords():
    passwords = {device_password() for _ in range(50)}
    assert len(passwords) == 50
    for password in passwords:
        assert len(password) == 32
        assert all(1 <= ord(char) <= 0x7FF for char in password)
        password.encode()
