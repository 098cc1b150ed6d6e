"""Test `provision --otp`, `otp …` and `unlock`: effects, refusals, and what they never print."""

import base64
import io
import json
import sys
import time
from urllib.parse import parse_qs, unquote, urlsplit

import cbor2
import pyotp
import pytest
from cli_kit import fails, said
from host_kit import refused
from warden_host import control_client
from warden_host.cli import main as cli
from warden_host.fleet import board_file
from warden_host.otp import enrol as otp_enrol
from warden_host.protocol import policy
from warden_host.store.otp import Delivered
from warden_host.store.store import Store

MAKE = ("provision", "D1", "--type", "lock", "--sim")


def bundle(folder) -> dict:
    return cbor2.loads((folder / "sim" / "D1" / "root" / "bundle").read_bytes()[4:])


def gate(folder):
    return policy.gate(bundle(folder)["policy"])


def typing(monkeypatch, *answers: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(each + "\n" for each in answers)))


def settings(folder, text: str) -> None:
    path = folder / "warden.toml"
    path.write_text(path.read_text() + text)


# The policy of a new device


def test_no_gate_unless_it_is_asked_for(folder, capsys):
    assert cli.run([*MAKE]) == 0
    assert cbor2.loads(bundle(folder)["policy"])["v"] == 1
    assert "otp" not in bundle(folder)
    assert cli.run([*MAKE, "--again", "--otp", "none"]) == 0
    assert cbor2.loads(bundle(folder)["policy"])["v"] == 1


def test_a_gate_and_its_terms(folder, capsys):
    terms = {"digits": 8, "validity": 120, "idle": 30, "retries": 5, "lock": 90}
    options = [word for key, value in terms.items() for word in (f"--otp-{key}", str(value))]
    options += ["--otp-before", "telemetry", "--no-otp-unlock", "--otp-duress"]
    assert cli.run([*MAKE, "--otp", "authority", *options]) == 0
    assert gate(folder) == {
        "source": "authority",
        "digits": 8,
        "validity_s": 120,
        "idle_s": 30,
        "retries": 5,
        "lock_s": 90,
        "before": "telemetry",
        "unlock": False,
        "duress": True,
    }
    assert "otp" not in bundle(folder)
    with Store(folder / "fleet.db") as store:
        assert policy.gate(store.device("D1").policy) == gate(folder)


def test_strict(folder, capsys):
    assert cli.run([*MAKE, "--strict"]) == 0
    assert cbor2.loads(bundle(folder)["policy"])["strict"] is True


def test_limits(folder, capsys):
    """Each limit that errors.md tells to raise can be set when the device is made, and has room
    above its default."""
    wanted = {
        "max_message": 16384,
        "stall_ms": 30000,
        "handshake_ms": 60000,
        "keepalive_s": 3600,
        "backoff_min_ms": 60000,
        "backoff_max_ms": 3600000,
    }
    options = [
        part
        for key, value in wanted.items()
        for part in ("--" + key.replace("_", "-"), str(value))
    ]
    assert cli.run([*MAKE, *options]) == 0
    assert cbor2.loads(bundle(folder)["policy"]) == cbor2.loads(policy.record(**wanted))
    assert set(wanted) == set(policy.LIMITS)
    for key, value in wanted.items():
        low, high, plain = policy.limit(key)
        assert low < plain < high == value
        assert cli.run([*MAKE, "--again", "--" + key.replace("_", "-"), str(high + 1)]) == 2


def test_outbox(folder, capsys):
    options = ("--outbox", "16", "--outbox-keep", "reboot", "--outbox-drop", "newest")
    assert cli.run([*MAKE, *options]) == 0
    wanted = policy.record(outbox=16, outbox_keep="reboot", outbox_drop="newest")
    assert cbor2.loads(bundle(folder)["policy"]) == cbor2.loads(wanted)
    assert cli.run([*MAKE, "--again", "--outbox", "0"]) == 0  # none: the policy's first version
    assert bundle(folder)["policy"] == policy.record()
    assert cli.run([*MAKE, "--again", "--outbox", "65"]) == 2
    fails(capsys, "bad-argument", *MAKE, "--again", "--outbox-keep", "reboot")
    fails(capsys, "bad-argument", *MAKE, "--again", "--outbox", "0", "--outbox-drop", "newest")


def test_terms_of_no_gate(folder, capsys):
    fails(capsys, "bad-argument", *MAKE, "--otp-digits", "8")
    fails(capsys, "bad-argument", *MAKE, "--otp", "none", "--otp-duress")


@pytest.fixture
def no_keypad(tmp_path):
    """A board.py of a simulated device without a keypad."""
    lines = board_file.load("UNIX").text.splitlines()
    path = tmp_path / "board.py"
    path.write_text("\n".join(each for each in lines if each[:7] not in ("KEYPAD ", "DISPLAY")))
    return "--board-file", str(path)


def test_the_fleets_own_rule(folder, no_keypad):
    settings(folder, '[otp.policy]\nsource = "authority"\ndigits = 7\n')
    assert cli.run([*MAKE]) == 0
    assert gate(folder)["digits"] == 7
    assert cli.run([*MAKE, "--again", "--otp-digits", "9"]) == 0
    assert gate(folder) == policy.otp(digits=9)
    assert cli.run([*MAKE, "--again", "--otp", "none"]) == 0
    assert gate(folder) is None
    assert cli.run([*MAKE, "--again", *no_keypad]) == 0
    assert gate(folder) is None, "the rule is for boards with a keypad"


def test_a_board_without_a_keypad_refuses_a_gate(folder, capsys, no_keypad):
    fails(capsys, "bad-argument", *MAKE, *no_keypad, "--otp", "authority")
    assert not (folder / "sim" / "D1").exists()


def test_unknown_settings(folder, capsys):
    settings(folder, "[otp]\nrequest_device = 3\n")
    fails(capsys, "config-malformed", *MAKE)


# Enrolment


def code_of(text: str, counter: int | None = None) -> str:
    """What an authenticator makes of the URI, by its parts alone."""
    parts = urlsplit(text)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    assert (parts.scheme, query["issuer"]) == ("otpauth", "Warden")
    digits = int(query.get("digits", 6))
    if parts.netloc == "hotp":
        made = pyotp.HOTP(query["secret"], digits=digits)
        return made.at(int(query["counter"]) if counter is None else counter)
    return pyotp.TOTP(query["secret"], digits=digits).now()


class Authenticator(io.TextIOBase):
    """Scans what the command prints and types the code: no other place has it."""

    def __init__(self, capsys, counters=(None, None)) -> None:
        self.capsys = capsys
        self.counters = list(counters)
        self.uris: list[str] = []
        self.seen = ""

    def readline(self, *_):
        out, _ = self.capsys.readouterr()
        self.seen += out
        self.uris.append(json.loads(out.splitlines()[-1])["uri"])
        return code_of(self.uris[-1], self.counters.pop(0)) + "\n"


def enrol(monkeypatch, capsys, *options: str, counters=(None, None)) -> Authenticator:
    made = Authenticator(capsys, counters)
    monkeypatch.setattr(sys, "stdin", made)
    assert cli.run(["otp", "enrol", "D1", *options, "--json"]) == 0
    assert said(capsys)["ok"] is True
    return made


def secret_of(text: str) -> bytes:
    return base64.b32decode(parse_qs(urlsplit(text).query)["secret"][0])


def test_enrolled_provisioned_and_forgotten(folder, capsys, monkeypatch):
    before = int(time.time()) // 30
    authenticator = enrol(monkeypatch, capsys, "--digits", "8", "--duress")
    main, duress = authenticator.uris
    assert unquote(urlsplit(main).path) == "/Warden:D1"
    assert "duress" not in unquote(duress).lower(), "others see the screen"
    secrets = secret_of(main), secret_of(duress)
    assert len(secrets[0]) == len(secrets[1]) == 20
    assert secrets[0] != secrets[1]
    assert cli.run([*MAKE, "--otp", "totp", "--otp-digits", "8", "--otp-duress"]) == 0
    *part, first = bundle(folder)["otp"]
    assert part == [secrets[0], 8, 30, secrets[1], "sha1"]
    assert before < first <= int(time.time()) // 30 + 2, "the code that was shown is used up"
    # The device and the authenticator have it, and nothing else.
    dump = (folder / "fleet.db").read_bytes() + (folder / "fleet.db-wal").read_bytes() if (
        folder / "fleet.db-wal"
    ).exists() else (folder / "fleet.db").read_bytes()  # fmt: skip
    with Store(folder / "fleet.db") as store:
        assert store.enrolment("D1") is None
    assert secrets[0] not in dump
    fails(capsys, "not-enrolled", *MAKE, "--again", "--otp", "totp", "--otp-digits", "8")


def test_hotp(folder, capsys, monkeypatch):
    authenticator = enrol(monkeypatch, capsys, "--source", "hotp", counters=(3, None))
    assert parse_qs(urlsplit(authenticator.uris[0]).query)["counter"] == ["0"]
    assert cli.run([*MAKE, "--otp", "hotp"]) == 0
    assert bundle(folder)["otp"] == [secret_of(authenticator.uris[0]), 6, 0, None, "sha1", 4]


@pytest.mark.parametrize("counters", [(1, 5), (5, 1)])
def test_both_codes_of_an_enrolment_are_used_up(folder, capsys, monkeypatch, counters):
    enrol(monkeypatch, capsys, "--source", "hotp", "--duress", counters=counters)
    assert cli.run([*MAKE, "--otp", "hotp", "--otp-duress"]) == 0
    assert bundle(folder)["otp"][5] == 6


def test_no_gate_that_nothing_opens(folder, capsys, monkeypatch):
    fails(capsys, "not-enrolled", *MAKE, "--otp", "totp")
    enrol(monkeypatch, capsys)
    fails(capsys, "not-enrolled", *MAKE, "--otp", "hotp")
    fails(capsys, "not-enrolled", *MAKE, "--otp", "totp", "--otp-digits", "8")
    fails(capsys, "not-enrolled", *MAKE, "--otp", "totp", "--otp-duress")
    assert cli.run([*MAKE, "--otp", "authority"]) == 0
    capsys.readouterr()
    with Store(folder / "fleet.db") as store:
        assert store.enrolment("D1") is not None, "a device that did not take it leaves it"


@pytest.mark.parametrize("digits", ["5", "9", "10", "100"])
def test_digits_that_authenticators_refuse(folder, capsys, digits):
    """Key URI Format: 6 or 8; RFC 4226 §5.3: 6, 7 or 8."""
    fails(capsys, "bad-argument", "otp", "enrol", "D1", "--digits", digits)
    with Store(folder / "fleet.db") as store:
        assert store.enrolment("D1") is None


def test_a_new_gate_of_digits_that_authenticators_refuse(folder, capsys):
    fails(capsys, "bad-argument", *MAKE, "--otp", "totp", "--otp-digits", "9")
    settings(folder, '[otp.policy]\nsource = "hotp"\ndigits = 10\n')
    fails(capsys, "bad-argument", *MAKE)
    assert not (folder / "sim" / "D1").exists()
    # Codes of the authority go by mail and are typed from it; a policy of before stays readable.
    assert cli.run([*MAKE, "--otp", "authority", "--otp-digits", "10"]) == 0
    kept = policy.record(otp=policy.otp(source="hotp", digits=10))
    assert policy.gate(kept) == policy.otp(source="hotp", digits=10)


def test_a_wrong_code_enrols_nothing(folder, capsys, monkeypatch):
    monkeypatch.setattr(otp_enrol.secrets, "token_bytes", bytes)
    right = pyotp.HOTP(base64.b32encode(bytes(20)).decode())
    for typed in ("000000", "12345", right.at(10), right.at(0) + "0", "x" * 100, "٠١٢٣٤٥"):
        typing(monkeypatch, typed)
        assert cli.run(["otp", "enrol", "D1", "--source", "hotp"]) == 1
        assert "bad-code" in capsys.readouterr().err
        with Store(folder / "fleet.db") as store:
            assert store.enrolment("D1") is None
    typing(monkeypatch, right.at(9)[:3] + " " + right.at(9)[3:])
    assert cli.run(["otp", "enrol", "D1", "--source", "hotp"]) == 0
    typing(monkeypatch, right.at(0))
    assert cli.run(["otp", "enrol", "D1", "--source", "hotp"]) == 2
    assert "bad-argument" in capsys.readouterr().err


def test_the_drift_that_totp_allows():
    made = otp_enrol.new("D1", "totp", 6, False)
    generator = pyotp.TOTP(base64.b32encode(made.secret).decode())
    for step, good in ((98, False), (99, True), (100, True), (101, True), (102, False)):
        code = generator.generate_otp(step)
        if good:
            assert otp_enrol.confirmed(made, code, 3000.0).first == step + 1
        else:
            with refused("bad-code"):
                otp_enrol.confirmed(made, code, 3000.0)


def test_rfc_vectors():
    """RFC 4226 appendix D, RFC 6238 appendix B."""
    seed = b"12345678901234567890"
    hotp = otp_enrol.replace(otp_enrol.new("D1", "hotp", 6, False), secret=seed)
    codes = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583"]
    codes += ["399871", "520489"]
    assert [otp_enrol.confirmed(hotp, code, 0).first for code in codes] == list(range(1, 11))
    totp = otp_enrol.replace(otp_enrol.new("D1", "totp", 8, False), secret=seed)
    vectors = {59: "94287082", 1111111109: "07081804", 1111111111: "14050471"}
    vectors |= {1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130"}
    for now, code in vectors.items():
        assert otp_enrol.confirmed(totp, code, now).first == now // 30 + 1


def test_the_qr_code_is_on_the_screen(folder, capsys, monkeypatch):
    monkeypatch.setattr(otp_enrol.secrets, "token_bytes", bytes)
    typing(monkeypatch, pyotp.HOTP(base64.b32encode(bytes(20)).decode()).at(0))
    assert cli.run(["otp", "enrol", "D1", "--source", "hotp"]) == 0
    out = capsys.readouterr().out
    assert "otpauth://hotp/Warden:D1?" in out
    lines = [line for line in out.splitlines() if "█" in line]
    assert len(lines) > 20
    assert len({len(line) for line in lines}) == 1


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


# Owners, status, secrets, unlocking


def test_owners(folder, capsys):
    assert cli.run([*MAKE, "--otp", "authority"]) == 0
    fails(capsys, "bad-argument", "otp", "owner", "D1", "--mail", "alice@example.org")
    settings(folder, '[otp.mail]\nhost = "mail.example.org"\nfrom = "warden@example.org"\n')
    settings(folder, '[otp.webhook]\nurl = "https://hooks.example.org/"\n')
    capsys.readouterr()
    assert (
        cli.run(["otp", "owner", "D1", "--mail", "alice@example.org", "--console", "--json"]) == 0
    )
    assert [each["way"] for each in said(capsys)["contacts"]] == ["console", "mail"]
    assert cli.run(["otp", "owner", "D1", "--alarm-mail", "g@example.org", "--json"]) == 0
    assert said(capsys)["contacts"] == [
        {"purpose": "alarm", "way": "mail", "address": "g@example.org"}
    ]
    assert cli.run(["otp", "owner", "D1"]) == 0
    assert "g@example.org" in capsys.readouterr().out
    for bad in ("alice", "a@b\nBcc: x@y"):
        fails(capsys, "bad-argument", "otp", "owner", "D1", "--mail", bad)
    for bad in ("x" * 65, "", "a\nb"):
        fails(capsys, "bad-argument", "otp", "owner", "D1", "--webhook", bad)
    assert cli.run(["otp", "owner", "D1", "--webhook", "x" * 64, "--json"]) == 0
    assert said(capsys)["contacts"][0]["way"] == "webhook"
    fails(capsys, "device-unknown", "otp", "owner", "D9", "--console")
    assert cli.run(["otp", "owner", "D1", "--none", "--json"]) == 0
    assert said(capsys)["contacts"] == []


def test_status(folder, capsys):
    assert cli.run(["otp", "status"]) == 0
    assert "no device has a gate" in capsys.readouterr().out
    assert cli.run([*MAKE, "--otp", "authority"]) == 0
    with Store(folder / "fleet.db") as store:
        store.record_delivery(
            Delivered("D1", "mail", "code", 1.0, "the mail server can't be reached")
        )
    capsys.readouterr()
    assert cli.run(["otp", "status"]) == 0
    out = capsys.readouterr().out
    assert "authority, 6 digits" in out
    assert "be reached" in out
    assert cli.run(["otp", "status", "D1", "--json"]) == 0
    record = said(capsys)
    assert record["gate"]["source"] == "authority"
    assert record["code"] is None
    assert record["deliveries"][0]["error"] == "the mail server can't be reached"
    fails(capsys, "device-unknown", "otp", "status", "D9")


def test_secrets_come_by_prompt_or_file_and_lie_in_files_of_their_own(
    folder, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(sys, "stdin", Tty())
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: "correct horse battery")
    given = tmp_path / "secret"
    given.write_text("correct horse battery\n")
    given.chmod(0o600)
    assert cli.run(["otp", "secret", "mail"]) == 0
    assert cli.run(["otp", "secret", "webhook", "--file", str(given)]) == 0
    out, err = capsys.readouterr()
    assert "horse" not in out + err
    for name in ("otp-mail.password", "otp-webhook.secret"):
        path = folder / "keys" / name
        assert path.read_text() == "correct horse battery"
        assert path.stat().st_mode & 0o777 == 0o600
    given.write_text("short")
    fails(capsys, "bad-argument", "otp", "secret", "webhook", "--file", str(given))
    given.write_text("")
    fails(capsys, "bad-argument", "otp", "secret", "mail", "--file", str(given))
    given.write_text("x" * 1025)
    fails(capsys, "bad-argument", "otp", "secret", "mail", "--file", str(given))
    given.chmod(0o644)
    fails(capsys, "key-permissions", "otp", "secret", "mail", "--file", str(given))
    assert (folder / "keys" / "otp-mail.password").read_text() == "correct horse battery"


def test_reset(folder, capsys):
    assert cli.run([*MAKE, "--otp", "authority"]) == 0
    with Store(folder / "fleet.db") as store:
        store.add_count("tried D1", 100, 10)
        store.add_count("asked D1", 100, 10)
        store.add_count("tried D2", 100, 10)
    assert cli.run(["otp", "reset", "D1"]) == 0
    with Store(folder / "fleet.db") as store:
        assert store.count_otp("tried D1", 100, 10) == store.count_otp("asked D1", 100, 10) == 0
        assert store.count_otp("tried D2", 100, 10) == 1
    fails(capsys, "device-unknown", "otp", "reset", "D9")


def test_unlock_shows_the_devices_answer(folder, capsys, monkeypatch):
    assert cli.run([*MAKE, "--otp", "authority"]) == 0
    answer = {"ok": False, "reply": {"ok": False, "error": "gate-open"}}
    monkeypatch.setattr(control_client, "call", lambda *_: answer)
    fails(capsys, "command-refused", "unlock", "D1")
    assert cli.run(["unlock", "D1"]) == 4
    assert "gate-open, no gate is shut" in capsys.readouterr().err


def test_unlock_where_there_is_nothing_to_unlock(folder, capsys):
    assert cli.run([*MAKE]) == 0
    fails(capsys, "not-applicable", "unlock", "D1")
    assert cli.run([*MAKE, "--again", "--otp", "authority", "--no-otp-unlock"]) == 0
    fails(capsys, "not-applicable", "unlock", "D1")
    assert cli.run([*MAKE, "--again", "--otp", "authority", "--plain"]) == 0
    fails(capsys, "not-applicable", "unlock", "D1")
    assert cli.run([*MAKE, "--again", "--otp", "authority"]) == 0
    fails(capsys, "not-serving", "unlock", "D1")
    fails(capsys, "device-unknown", "unlock", "D9")


@pytest.mark.parametrize("command", ["enrol", "owner", "watch", "status", "reset", "secret"])
def test_help_has_examples(command, capsys):
    assert cli.run(["otp", command, "--help"]) == 0
    assert "Example" in capsys.readouterr().out
