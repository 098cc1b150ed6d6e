"""Each check of `warden doctor` finds its weakness, and nothing where there is none."""

import hashlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cli_kit import fails
from cryptography.hazmat.primitives.asymmetric import ec
from host_kit import new_fleet
from process_kit import PATIENCE_S, child
from warden_host.backup import age, backup
from warden_host.broker import backend
from warden_host.broker.mosquitto import dynsec
from warden_host.cli import main
from warden_host.doctor import board_checks, broker_checks, probe, report
from warden_host.doctor.backup_checks import BackupFacts
from warden_host.doctor.board_checks import BoardFacts
from warden_host.doctor.broker_checks import BrokerFacts
from warden_host.doctor.facts import DAY_S, DeviceFacts, FleetFacts, Live
from warden_host.doctor.registry import CHECKS, Grade, merged, run, worth
from warden_host.errors import HostError
from warden_host.fleet import client_pki, fleet, pki
from warden_host.protocol import policy
from warden_host.release import signing_key
from warden_host.service.clock_guard import Reading
from warden_host.store.certificates import Certificate
from warden_host.store.clock import Mark
from warden_host.store.schema import FORMAT
from warden_host.store.store import App, Device, Store

REPO = Path(__file__).resolve().parents[3]
NOW = time.time()
PASSPHRASE = b"five words drawn by chance"
TOML = """
[alarms]
webhook = true

[otp.webhook]
url = "https://ops.example.org/warden"
"""


class World:
    """A fleet without a weakness, a device of it, and this host as it should be."""

    def __init__(self, root: Path) -> None:
        self.fleet = fleet.Fleet(root)
        self.store = Store(self.fleet.database)
        self.free = 1 << 40
        self.unset = False
        self.clock = Reading(Mark(NOW, 100.0, "boot"), 100.0)
        self.live = Live(True, frozenset(), {"D1": "online"})
        self.now = NOW

    def change(self, **what) -> None:
        with self.store.transaction():
            for column, value in what.items():
                self.store._do(f"UPDATE devices SET {column} = ?", value)  # noqa: S608

    def configure(self, text: str) -> None:
        path = self.fleet.root / fleet.CONFIG
        path.write_text(path.read_text() + text)
        self.fleet = fleet.Fleet(self.fleet.root)

    def facts(self) -> FleetFacts:
        return FleetFacts(
            self.fleet,
            self.store,
            self.live,
            self.now,
            lambda _: self.free,
            lambda: self.clock,
            lambda: self.unset,
        )

    def device(self) -> DeviceFacts:
        return DeviceFacts(self.facts(), self.store.device("D1"))


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    made = new_fleet(tmp_path_factory.mktemp("doctor"))
    with (made.root / fleet.CONFIG).open("a") as file:
        file.write(TOML)
    keys = made.keys
    pki.write_ca(keys, "ca", pki.load_ca(keys), PASSPHRASE)
    client_pki.create(made, PASSPHRASE)
    issuer = pki.load_ca(keys, client_pki.ISSUER)
    pki.write_ca(keys, client_pki.ISSUER, issuer, PASSPHRASE)
    for name in ("daily", "reserve"):
        signing_key.add(made, name, ec.generate_private_key(ec.SECP256R1()).public_key())
    with Store(made.database) as store:
        with store.transaction():
            store.add_device(Device("D1", "relay", "UNIX", "sealed", policy.record()))
            store.set_pins("D1", list(pki.load_pins(keys)))
        store.set_last_seen("D1", NOW)
        store.write_events()
        store.set_clock_mark(Mark(NOW, 100.0, "boot"))
        store.complete_backup(store.begin_backup(), b"".join(pki.load_pins(keys)))
        for _ in range(3):
            store.add_audit("owner", "app add home")
    return made.root


@pytest.fixture
def world(template, tmp_path):
    shutil.copytree(template, tmp_path / "fleet")
    made = World(tmp_path / "fleet")
    yield made
    made.store.close()


def _leaf(world: World, days: float) -> None:
    ca = pki.load_ca(world.fleet.keys, "ca", PASSPHRASE)
    key = pki.load_key(world.fleet.keys / "server.key")
    end = pki.datetime.fromtimestamp(world.now + days * DAY_S, pki.UTC)
    leaf = ca.issue(("localhost",), key=key, not_after=end)
    (world.fleet.keys / "server.crt").write_bytes(leaf.certificate_pem())


def _certified(world: World, days: float | None) -> None:
    world.change(policy=policy.record(auth="certificate"))
    if days is not None:
        end = world.now + days * DAY_S
        row = Certificate("01", "D1", "relay", "n", "ec", "host", world.now - 1, end, b"")
        with world.store.transaction():
            world.store.add_certificate(row)


def _same_reserve(world: World) -> None:
    shutil.copy(world.fleet.keys / "server.key", world.fleet.keys / "backup.key")


def _one_release_key(world: World) -> None:
    signing_key.remove(world.fleet, "reserve")


def _open_release_key(world: World) -> None:
    shutil.copy(world.fleet.keys / "server.key", world.fleet.keys / "release" / "daily.key")


def _forge_audit(world: World) -> None:
    world.store._do("DELETE FROM audit WHERE id = 2")


def _rotating(world: World, waits: bool) -> None:
    with world.store.transaction():
        world.store.add_rotation("D1", {"apps": {}})
        if waits:
            world.store.await_backup("D1")


def _backup_age(world: World, **what) -> None:
    state = world.store.backup_state()._replace(**what)
    world.store._set("backups", json.dumps(state))


def _released(world: World) -> None:
    world.store._do("INSERT INTO releases VALUES (1, 'relay-1.0', 'relay', '1.0', 1.0, NULL)")


def _crl(world: World, days: float) -> None:
    ca = client_pki.load_issuer(world.fleet, PASSPHRASE)
    life = client_pki.timedelta(days=days)
    (world.fleet.broker / client_pki.CRL).write_bytes(client_pki.make_crl(ca, (), life))


# (check, how a fleet gets its weakness, its grade, words of the finding)
SERIOUS, WORTH = Grade.SERIOUS, Grade.WORTH
FLEET = [
    ("permissions", lambda w: (w.fleet.keys / "server.key").chmod(0o640), SERIOUS, "server.key"),
    ("server-key", _same_reserve, SERIOUS, "reserve"),
    ("server-key", lambda w: _leaf(w, 5.5), SERIOUS, "ends in 5 days"),
    ("server-key", lambda w: setattr(w, "now", NOW + 11 * 365 * DAY_S), SERIOUS, "has expired"),
    ("server-key", lambda w: (w.fleet.keys / "backup.key").unlink(), SERIOUS, "key-missing"),
    (
        "ca-passphrase",
        lambda w: shutil.copy(w.fleet.keys / "server.key", w.fleet.keys / "ca.key"),
        WORTH,
        "keys/ca.key",
    ),
    (
        "ca-passphrase",
        lambda w: shutil.copy(w.fleet.keys / "server.key", w.fleet.keys / "devices-ca.key"),
        WORTH,
        "devices-ca.key",
    ),
    ("release-keys", _open_release_key, SERIOUS, "daily has no passphrase"),
    ("release-keys", _one_release_key, WORTH, "one release key"),
    ("revocation-list", lambda w: _crl(w, 3.5), WORTH, "ends in 3 days"),
    ("revocation-list", lambda w: setattr(w, "now", NOW + 40 * DAY_S), SERIOUS, "has ended"),
    ("backup", lambda w: _backup_age(w, done=0, made=0.0), SERIOUS, "no backup"),
    ("backup", lambda w: _rotating(w, True), SERIOUS, "rotation of D1"),
    ("backup", lambda w: _backup_age(w, made=NOW - 9 * DAY_S), WORTH, "9 days old"),
    ("backup", lambda w: pki.renew_backup(w.fleet.keys), SERIOUS, "lacks the server's present"),
    (
        "clock",
        lambda w: setattr(w, "clock", Reading(Mark(NOW - 9999, 100.0, "boot"), 1.0)),
        SERIOUS,
        "jumped",
    ),
    ("clock", lambda w: setattr(w, "unset", True), WORTH, "no time server"),
    ("disk", lambda w: setattr(w, "free", 100 << 20), SERIOUS, "100 MiB"),
    (
        "tls-optional",
        lambda w: w.configure("[connection]\nmessages_readable_on_the_network = true\n"),
        WORTH,
        "asks for none",
    ),
    (
        "tls-optional",
        lambda w: w.configure(
            "[connection]\nmessages_readable_on_the_network = true\ntls = false\n"
        ),
        WORTH,
        "provisioned without TLS",
    ),
    ("alarms", lambda w: w.fleet.document.pop("alarms"), WORTH, "no alarm"),
    ("audit", _forge_audit, SERIOUS, "row 2"),
    (
        "applications",
        lambda w: w.store.add_app(App("home", ("lock",), ("open",))),
        WORTH,
        "application home",
    ),
]
DEVICE = [
    ("plain-mode", lambda w: w.change(mode="plain"), SERIOUS, "plain mode"),
    (
        "plain-mode",
        lambda w: w.change(mode="plain", policy=policy.record(mode="plain", validate=False)),
        SERIOUS,
        "any application",
    ),
    ("no-tls", lambda w: w.change(policy=policy.record(tls=False)), SERIOUS, "no TLS"),
    ("backup-pin", lambda w: w.store.set_pins("D1", []), SERIOUS, "not known to pin"),
    ("backup-pin", lambda w: w.store.set_pins("D1", [bytes(32)] * 2), SERIOUS, "can't connect"),
    ("root-key", lambda w: w.change(board="RPI_PICO_W"), WORTH, "hides nothing"),
    ("root-key", lambda w: w.change(board="ESP32_GENERIC_S3"), WORTH, "its fuses"),
    (
        "development",
        lambda w: setattr(w, "live", Live(True, frozenset(("D1",)))),
        SERIOUS,
        "open now",
    ),
    (
        "development",
        lambda w: w.change(policy=policy.record(development=True)),
        WORTH,
        "allows development",
    ),
    ("certificate", lambda w: _certified(w, None), SERIOUS, "has none"),
    ("certificate", lambda w: _certified(w, 4.5), SERIOUS, "ends in 4 days"),
    (
        "log-in",
        lambda w: w.configure('[connection.type.relay]\nauth = "certificate"\n'),
        WORTH,
        "warden.toml says certificate",
    ),
    ("quarantine", lambda w: w.change(quarantine="rolled back"), SERIOUS, "rolled back"),
    (
        "away",
        lambda w: (w.change(last_seen=NOW - 2 * DAY_S), setattr(w, "live", Live(True))),
        SERIOUS,
        "more than 24 hours",
    ),
    (
        "away",
        lambda w: (w.change(last_seen=0.0), setattr(w, "live", Live(True))),
        WORTH,
        "never seen",
    ),
    ("policy", lambda w: w.change(diverged=1), SERIOUS, "differs"),
    ("rotation", lambda w: _rotating(w, False), WORTH, "not finished"),
    ("firmware", _released, WORTH, "relay-1.0 is the newest"),
    (
        "attacks",
        lambda w: w.store.add_incident("D1", "device", "tampered", "set_relay", 1),
        WORTH,
        "tampered",
    ),
]


def found(area: str, name: str, facts) -> list:
    (one,) = [check for check in CHECKS[area] if check.name == name]
    return run(one, facts)


@pytest.mark.parametrize(("name", "weaken", "grade", "words"), FLEET)
def test_a_check_of_the_fleet(world, name, weaken, grade, words):
    assert found("fleet", name, world.facts()) == []
    weaken(world)
    findings = found("fleet", name, world.facts())
    (one,) = [each for each in findings if words in each.text]
    assert (one.grade, one.check) == (grade, name)
    assert one.mend


@pytest.mark.parametrize(("name", "weaken", "grade", "words"), DEVICE)
def test_a_check_of_a_device(world, name, weaken, grade, words):
    assert found("device", name, world.device()) == []
    weaken(world)
    findings = found("device", name, world.device())
    (one,) = [each for each in findings if words in each.text]
    assert (one.grade, one.check) == (grade, name)
    assert one.mend


def test_a_board_without_a_watchdog(world, monkeypatch):
    facts = world.device()
    assert found("device", "watchdog", facts) == []
    without = {name: value for name, value in facts.board.items() if name != "WATCHDOG"}
    monkeypatch.setattr(DeviceFacts, "board", without)
    (one,) = found("device", "watchdog", world.device())
    assert "WATCHDOG = 30000" in one.mend


BACKUP = [
    ("whole", {"content": None}, WORTH, "not read"),
    ("place", {}, WORTH, "own disk"),
    ("permissions", {"mode": 0o666}, SERIOUS, "0666"),
    ("passphrase", {"work": 10}, SERIOUS, "2^10"),
    ("age", {"made": NOW - 30 * DAY_S}, WORTH, "30 days old"),
    ("current", {"number": 0}, WORTH, "not the fleet's last"),
    ("current", {"devices": 0}, SERIOUS, "has 0 devices"),
]


@pytest.mark.parametrize(("name", "weakness", "grade", "words"), BACKUP)
def test_a_check_of_a_backup(world, tmp_path, name, weakness, grade, words):
    path = tmp_path / "fleet.age"
    with path.open("wb") as file:
        writer = age.Writer(file, (), PASSPHRASE, weakness.get("work", 10))
        writer.close()
    path.chmod(weakness.get("mode", 0o600))
    about = {"made": weakness.get("made", NOW), "number": weakness.get("number", 1)}
    content = backup.Checked(about, 3, 1000, weakness.get("devices", 1))
    facts = BackupFacts(path, weakness.get("content", content), NOW, world.fleet.root, world.store)
    (one,) = found("backup", name, facts)
    assert one.grade is grade and words in one.text
    good = replace(facts, content=backup.Checked({"made": NOW, "number": 1}, 3, 1000, 1))
    path.chmod(0o600)
    if name == "place":
        good = replace(facts, root=Path("/proc"))
    if name == "passphrase":
        key = age.read_recipient(age.new_identity()[1])
        with path.open("wb") as file:
            age.Writer(file, (key,)).close()
    assert found("backup", name, good) == []


def test_a_check_of_a_board():
    good = BoardFacts(board_checks.NEWEST, 200_000, frozenset(("boot.py",)))
    for name, weak, words in (
        ("micropython", replace(good, version=(1, 22)), "too old"),
        ("micropython", replace(good, version=(1, 24)), "newest tried"),
        ("console", replace(good, files=frozenset(("boot.py", "main.py", "vault"))), "anyone"),
        ("heap", replace(good, heap=60_000), "60,000 bytes"),
    ):
        assert found("board", name, good) == []
        (one,) = found("board", name, weak)
        assert words in one.text


# The broker


BAD = """\
listener {port} 127.0.0.1
certfile {keys}/server.crt
keyfile {keys}/server.key
tls_version tlsv1.1
ciphers ALL:@SECLEVEL=0
allow_anonymous true
listener {bare} 127.0.0.1
allow_anonymous true
user {user}
"""


def broker(world: World, serving: bool = True) -> BrokerFacts:
    return BrokerFacts(world.fleet, serving, world.store.policies())


def test_checks_of_a_broker_of_ours(world, monkeypatch):
    monkeypatch.setattr(backend, "program_version", lambda _: broker_checks.NAMES_CLIENTS)
    monkeypatch.setattr(broker_checks, "BARE_PORT", world.fleet.settings.broker.admin_port)
    with backend.Broker(world.fleet):
        for one in CHECKS["broker"]:
            assert run(one, broker(world)) == [], one.name
        conf = world.fleet.broker / "mosquitto.conf"
        conf.write_text(conf.read_text().replace("allow_anonymous false", "allow_anonymous true"))
        (one,) = found("broker", "settings", broker(world))
        assert one.grade is SERIOUS
        _leaf(world, 900)
        pki.secretfile.write(world.fleet.keys / "server.key", pki.private_pem(pki.new_key()))
        ca = pki.load_ca(world.fleet.keys, "ca", PASSPHRASE)
        (world.fleet.keys / "server.crt").write_bytes(ca.issue(("127.0.0.1",)).certificate_pem())
        (one,) = found("broker", "answers", broker(world))
        assert "another certificate" in one.text
    for serving, words in ((True, "nothing answers"), (False, "not served")):
        (one,) = found("broker", "answers", broker(world, serving))
        assert words in one.text
    monkeypatch.setattr(backend, "program_version", lambda _: (2, 0, 11))
    (one,) = found("broker", "program", broker(world))
    assert "mosquitto 2.0.11" in one.text


def test_bans_that_are_not_enforced(world, monkeypatch):
    answer = [{"bans": []}, {"ok": True, "enforced": False, "why": "no right"}]
    monkeypatch.setattr(broker_checks.control_client, "stream", lambda *_: iter(answer))
    assert found("broker", "bans", broker(world)) == []  # loopback alone
    monkeypatch.setattr(broker_checks, "_LOOPBACK", ())
    (one,) = found("broker", "bans", broker(world))
    assert "not blocked: no right" in one.text
    assert found("broker", "bans", broker(world, serving=False)) == []
    answer[1]["enforced"] = True
    assert found("broker", "bans", broker(world)) == []


def test_checks_of_a_broker_that_others_set_up(world, tmp_path, monkeypatch):
    port, bare = world.fleet.settings.broker.port, world.fleet.settings.broker.admin_port
    monkeypatch.setattr(broker_checks, "BARE_PORT", bare)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout
    conf = tmp_path / "bad.conf"
    conf.write_text(BAD.format(port=port, bare=bare, keys=world.fleet.keys, user=user.strip()))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with child([backend.find_program(), "-c", str(conf)], **quiet):
        end = time.monotonic() + PATIENCE_S
        while not probe.speaks_plain_mqtt("127.0.0.1", bare) and time.monotonic() < end:
            time.sleep(0.05)
        for name in ("anonymous", "tls-versions", "plain-listener"):
            (one,) = found("broker", name, broker(world))
            assert one.grade is SERIOUS
        other = broker(world)
        shutil.copy(world.fleet.keys / "devices-root.crt", world.fleet.keys / "ca.crt")
        (one,) = found("broker", "answers", other)
        assert "no broker of this fleet" in one.text


def test_accounts_that_may_too_much(world):
    assert found("broker", "accounts", broker(world)) == []
    document = dynsec.load(world.fleet.broker)
    document["clients"][0] |= {"clientid": "", "groups": [{"groupname": "all"}]}
    document["roles"][-1]["acls"].append({"acltype": "subscribePattern", "topic": "#"})
    dynsec.save(world.fleet.broker, document)
    texts = [one.text for one in found("broker", "accounts", broker(world))]
    assert [word for word in ("client ID", "rights to #", "group") if word in str(texts)] == [
        "client ID",
        "rights to #",
        "group",
    ]


# The report and the command


def test_every_check_is_tested():
    tested = {
        "fleet": {case[0] for case in FLEET},
        "device": {case[0] for case in DEVICE} | {"watchdog"},
        "backup": {case[0] for case in BACKUP},
        "board": {"micropython", "console", "heap"},
        "broker": {
            *("program", "settings", "answers", "anonymous", "tls-versions"),
            *("plain-listener", "accounts", "bans"),
        },
    }
    assert {area: {one.name for one in checks} for area, checks in CHECKS.items()} == tested
    page = (REPO / "docs/doctor.md").read_text()
    for names in tested.values():
        assert [name for name in names if f"`{name}`" not in page] == []


def test_findings_of_many_devices_are_one():
    one = replace(worth("it is away", "`warden show DEVICE`"), check="away")
    findings = [replace(one, devices=(name,)) for name in ("D1", "D2")]
    (both,) = merged(findings)
    assert both.devices == ("D1", "D2")
    assert both.command == "`warden show DEVICE`"
    assert findings[0].command == "`warden show D1`"


def test_a_check_that_can_not_look_says_so(world):
    (world.fleet.keys / "server.crt").write_text("no certificate")
    (one,) = found("fleet", "server-key", world.facts())
    assert one.grade is SERIOUS and one.text.startswith("key-damaged: ")


def _digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_command_changes_nothing(world, capsys, monkeypatch):
    root = world.fleet.root
    world.store.close()
    monkeypatch.setenv("WARDEN_FLEET", str(root))
    before = _digest(root)
    assert main.run(["doctor", "--json"]) in (0, 1)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"check", "grade", "text", "mend", "devices"} == lines[0].keys()
    last = lines[-1]
    assert last["ok"] is (last["serious"] == 0)
    assert "audit" in last["fine"]
    assert main.run(["doctor", "D1"]) == 0
    assert "nothing weak" in capsys.readouterr().out
    assert _digest(root) == before
    fails(capsys, "device-unknown", "doctor", "D9")
    assert main.run(["doctor", "--key-file", "x"]) == 2


def test_the_exit_code_follows_the_grades(world, capsys, monkeypatch):
    monkeypatch.setenv("WARDEN_FLEET", str(world.fleet.root))
    world.change(board="RPI_PICO_W")
    assert main.run(["doctor", "D1"]) == 0
    assert main.run(["doctor", "D1", "--strict"]) == 1
    world.change(mode="plain")
    assert main.run(["doctor", "D1"]) == 1
    text = capsys.readouterr().out
    assert "D1: it is in plain mode" in text
    assert "`warden provision D1 --again`" in text
    assert "1 serious, 1 worth doing" in text


def test_a_fleet_that_can_not_be_opened(world, capsys, monkeypatch):
    root = world.fleet.root
    monkeypatch.setenv("WARDEN_FLEET", str(root))
    world.store._do(f"PRAGMA user_version = {FORMAT - 1}")
    for spoil in (
        lambda: None,
        lambda: root.chmod(0o755),
        lambda: (root.chmod(0o700), (root / fleet.CONFIG).write_text("[x")),
    ):
        spoil()
        assert main.run(["doctor", "--json"]) == 1
        (one, last) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert one["grade"] == "serious" and one["mend"]
        assert last["serious"] == 1


def test_a_backup_by_the_command(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WARDEN_FLEET", str(world.fleet.root))
    secret, recipient = age.new_identity()
    key, file = tmp_path / "key", tmp_path / "fleet.age"
    key.write_text(secret)
    key.chmod(0o600)
    assert main.run(["backup", "make", str(file), "--to", recipient]) == 0
    capsys.readouterr()
    assert main.run(["doctor", "--backup", str(file), "--key-file", str(key), "--json"]) == 0
    *findings, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["check"] for one in findings] == ["place"]
    assert {"whole", "permissions", "passphrase", "age", "current"} == set(last["fine"])
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert main.run(["doctor", "--backup", str(file), "--key-file", str(key)]) == 1
    assert "backup-damaged" in capsys.readouterr().out
    os.unlink(file)
    fails(capsys, "filesystem", "doctor", "--backup", str(file))
    os.mkfifo(file)  # nothing ever comes from it
    fails(capsys, "bad-argument", "doctor", "--backup", str(file))


def test_a_database_that_is_read_only(world):
    """It needs no -wal beside the file, refuses changes, and sees what others wrote."""
    world.store.close()
    path = world.fleet.database
    for _ in range(2):
        with Store(path, read_only=True) as reader:
            assert reader.names() == ["D1"]
            with pytest.raises(HostError):
                reader.add_app(App("x", (), ()))
        writer = Store(path)
    with Store(path, read_only=True) as reader:
        writer.add_app(App("y", (), ()))
        assert [app.appid for app in reader.apps()] == ["y"]
    writer.close()


def test_the_reports_of_other_areas(monkeypatch):
    class Board:
        def __init__(self, port):
            assert port == "/dev/ttyX"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def ask(self, _):
            return {"version": [1, 20], "heap": 1, "files": []}

    monkeypatch.setattr(report, "Board", Board)
    made = report.board_report("/dev/ttyX", "D1")
    assert (made.serious, made.fine) == (1, ["console"])
    assert made.findings[0].devices == ("D1",)
