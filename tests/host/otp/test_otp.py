"""Test codes at the authority: issue, delivery to the owner alone, one verification.

Late, used, guessed and foreign codes are refused.
"""

from dataclasses import replace

import cbor2
import pytest
from codes_kit import LATE, PEPPER, RIGHT, WRONG, Gate, OtpStage, gated, other
from engine_kit import SEALED, UID, K
from host_kit import DEVICE, PeerDevice, refused
from warden_client.protocol.session import Instant
from warden_host import names
from warden_host.engine import commands
from warden_host.engine.request import Request
from warden_host.otp import enrol, otp
from warden_host.otp.settings import Limits
from warden_host.protocol import policy
from warden_host.store.otp import Contact, Delivered


@pytest.fixture
def stages(tmp_path):
    """Makes stages, and closes them."""
    made: list[OtpStage] = []

    def make(device=None, limits=None) -> OtpStage:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(OtpStage(folder, device, limits))
        return made[-1]

    yield make
    for each in made:
        each.store.close()


@pytest.fixture
def gate(stages) -> Gate:
    return Gate(stages())


def test_the_right_code(gate):
    stage = gate.stage
    [answer] = gate.ask()
    assert answer == {
        "topic": "server_otp_response",
        "by": "authority",
        "cmd": "server_otp_response",
        "appid": "authority",
        "uid": "",
        "req": gate.req,
        "validity": 300,
        "time": "2023-11-14 22:13:20",
    }
    [message] = stage.posted
    assert (message.device, message.purpose, message.way) == (DEVICE, "code", "console")
    assert len(message.code) == 6
    assert message.code.isdigit()
    assert message.duress == ""
    [answer] = gate.type(message.code)
    assert answer == {
        "topic": "server_otp_validate",
        "by": "authority",
        "cmd": "server_otp_validate",
        "appid": "authority",
        "uid": "",
        "req": gate.req,
        "isOTPValid": "true",
        "isTimeOut": "false",
        "time": "2023-11-14 22:13:20",
    }
    assert stage.store.events(DEVICE) == []
    assert stage.store.incidents(DEVICE) == []


def test_a_code_counts_once(gate):
    gate.ask()
    assert gate.verdict(gate.stage.code) == RIGHT
    assert gate.verdict(gate.stage.code) == LATE
    assert "otp-replayed" in gate.stage.codes()


def test_a_wrong_code_and_then_the_right_one(gate):
    gate.ask()
    assert gate.verdict(other(gate.stage.code)) == WRONG
    assert gate.verdict(gate.stage.code[:5]) == WRONG
    assert gate.verdict(gate.stage.code) == RIGHT
    assert gate.stage.store.incidents(DEVICE)[0].code == "otp-wrong"


def test_more_digits_than_the_policy_asks_for(stages):
    for digits in (6, 8, 10):
        gate = Gate(stages(gated(digits=digits)))
        gate.ask()
        assert len(gate.stage.code) == digits
        assert gate.verdict("0" + gate.stage.code) == WRONG
        assert gate.verdict(gate.stage.code) == RIGHT


def test_a_code_after_its_time(stages):
    for restart in (False, True):
        gate = Gate(stages(gated(validity_s=30)))
        stage = gate.stage
        gate.ask()
        stage.pass_time(30)
        if restart:
            stage.restart()
        assert gate.verdict(stage.code) == LATE
        assert "otp-late" in stage.codes()
        gate.ask()
        stage.pass_time(29)
        if restart:
            stage.restart()
        assert gate.verdict(stage.code) == RIGHT


@pytest.mark.parametrize(("step", "restart", "verdict"), [
    (-7200, False, RIGHT), (7200, False, RIGHT), (-7200, True, LATE), (7200, True, LATE),
])  # fmt: skip
def test_the_clock_of_this_machine_is_set(gate, step, restart, verdict):
    """The steady clock counts where it can; after a restart a date that makes no sense ends the
    code."""
    stage = gate.stage
    gate.ask()
    stage.now = Instant(stage.now.unix + step, stage.now.steady + 10)
    if restart:
        stage.restart()
    assert gate.verdict(stage.code) == verdict


def test_a_clock_set_back_makes_no_code_live_longer(gate):
    stage = gate.stage
    gate.ask()
    stage.now = Instant(stage.now.unix - 7200, stage.now.steady + 301)
    assert gate.verdict(stage.code) == LATE


def test_no_more_attempts_than_the_policy_gives(stages):
    gate = Gate(stages(gated(retries=3)))
    gate.ask()
    code = gate.stage.code
    for _ in range(3):
        assert gate.verdict(other(code)) == WRONG
    assert gate.verdict(code) == LATE
    assert "otp-limit" in gate.stage.codes()


def test_attempts_are_stored_before_they_are_compared(stages, monkeypatch):
    gate = Gate(stages(gated(retries=2)))
    stage = gate.stage
    gate.ask()
    code = stage.code

    def cut(*_):
        raise RuntimeError("the power is cut while the code is compared")

    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(otp.hmac, "compare_digest", cut)
            with pytest.raises(RuntimeError):
                stage.handler._codes.verify(
                    DEVICE, policy.otp(retries=2), gate.req, code, stage.now
                )
        stage.restart()
        assert not stage.store._db.in_transaction
    assert stage.store.code(DEVICE).tries == 2
    assert gate.verdict(code) == LATE


def test_a_new_request_cancels_the_code_before(gate):
    stage = gate.stage
    gate.ask()
    first, code = gate.req, stage.code
    gate.ask()
    assert len(stage.posted) == 2
    assert gate.verdict(code, first) == LATE
    assert gate.verdict(code if code != stage.code else other(code)) == WRONG
    assert gate.verdict(stage.code) == RIGHT


def test_a_cancelled_request_does_not_come_back(gate):
    gate.ask()
    first = gate.req
    gate.ask()
    second = gate.req
    assert gate.ask(first) == []
    assert "otp-replayed" in gate.stage.codes()
    assert len(gate.stage.posted) == 2
    assert gate.verdict(gate.stage.code, second) == RIGHT


def test_the_same_request_again_gets_the_same_answer_and_no_second_code(gate):
    stage = gate.stage
    gate.ask()
    stage.pass_time(100)
    [answer] = gate.ask(gate.req)
    assert answer["validity"] == 200
    assert len(stage.posted) == 1
    assert gate.verdict(stage.code) == RIGHT
    assert gate.ask(gate.req) == []
    assert len(stage.posted) == 1


def test_the_same_request_again_when_its_time_is_almost_over(gate):
    gate.ask()
    gate.stage.pass_time(270)
    assert gate.ask(gate.req)[0]["validity"] == 30
    gate.stage.pass_time(1)
    assert gate.ask(gate.req) == []
    assert gate.verdict(gate.stage.code) == RIGHT


def test_a_plain_message_that_the_network_doubled(stages):
    gate = Gate(stages(gated("plain", retries=1)), sealed=False)
    gate.ask()
    for _ in range(2):
        assert gate.verdict(other(gate.stage.code)) == WRONG
    assert gate.stage.store.code(DEVICE).tries == 1
    gate.ask()
    for _ in range(2):
        assert gate.verdict(gate.stage.code) == RIGHT
    gate.stage.pass_time(6)
    assert gate.verdict(gate.stage.code) == LATE


def test_a_request_that_ran_out_asks_for_nothing(gate):
    gate.ask()
    gate.stage.pass_time(301)
    assert gate.ask(gate.req) == []
    assert len(gate.stage.posted) == 1


def test_a_code_of_another_request_or_device(gate):
    codes = gate.stage.handler._codes
    gate.ask()
    assert codes._digest("D1", "a" * 32, "123456") != codes._digest("D2", "a" * 32, "123456")
    assert codes._digest("D1", "a" * 32, "123456") != codes._digest("D1", "b" * 32, "123456")
    assert gate.verdict(gate.stage.code, "0" * 32) == LATE
    assert gate.verdict(gate.stage.code) == RIGHT


def test_nothing_before_any_request(gate):
    assert gate.verdict("000000", "0" * 32) == LATE
    assert gate.stage.posted == []


def test_codes_for_unknown_requests_are_counted(stages):
    gate = Gate(stages(limits=Limits(attempts_device=5)))
    for _ in range(5):
        assert gate.verdict("000000", "0" * 32) == LATE
    assert gate.ask() == []
    assert gate.stage.posted == []


def test_a_device_that_asks_too_often(stages):
    gate = Gate(stages(limits=Limits(requests_device=3)))
    stage = gate.stage
    for _ in range(3):
        assert len(gate.ask()) == 1
    assert gate.ask() == []
    assert len(stage.posted) == 3
    assert "otp-limit" in stage.codes()
    stage.restart()
    assert gate.ask() == []
    stage.pass_time(3601)
    assert len(gate.ask()) == 1
    stage.now = Instant(stage.now.unix - 7200, stage.now.steady + 1)
    for _ in range(3):
        gate.ask()
    assert len(stage.posted) == 6, "requests from the future count"


def test_an_owner_of_many_devices_is_spared_a_flood(stages):
    stage = stages(limits=Limits(requests_owner=2, requests_device=10))
    stage.store.set_contacts(DEVICE, [Contact("code", "mail", "a@example.org")])
    gate = Gate(stage)
    for _ in range(2):
        assert len(gate.ask()) == 1
    assert gate.ask() == []
    stage.store.set_contacts(DEVICE, [Contact("code", "mail", "b@example.org")])
    assert len(gate.ask()) == 1
    both = [Contact("code", "mail", name + "@example.org") for name in "ab"]
    stage.store.set_contacts(DEVICE, both)
    gate.ask()
    assert [each.address[0] for each in stage.posted] == ["a", "a", "b", "b"]


def test_too_many_wrong_codes_in_a_day(stages):
    gate = Gate(stages(gated(retries=10), Limits(attempts_device=4, requests_device=100)))
    stage = gate.stage
    for _ in range(2):
        gate.ask()
        for _ in range(2):
            assert gate.verdict(other(stage.code)) == WRONG
    assert gate.verdict(stage.code) == LATE
    assert gate.ask() == []
    otp.reset_counts(stage.store, DEVICE)
    gate.ask()
    assert gate.verdict(stage.code) == RIGHT


def test_a_flood_of_guesses_costs_no_disk(stages):
    gate = Gate(stages(limits=Limits(attempts_device=3)))
    for _ in range(3):
        gate.type("000000", "0" * 32)
    before = gate.stage.store._db.total_changes
    for _ in range(20):
        assert gate.verdict("000000", "0" * 32) == LATE
        gate.stage.now = Instant(gate.stage.now.unix, gate.stage.now.steady + 0.01)
    assert gate.stage.store._db.total_changes <= before + 1, "one incident a second"


def test_a_device_that_is_gone_leaves_no_owner_behind(gate):
    store = gate.stage.store
    store.set_contacts(DEVICE, [Contact("code", "mail", "a@example.org")])
    store.put_enrolment(enrol.new(DEVICE, "totp", 6, False))
    store.add_device(gated())
    assert store.contacts(DEVICE)
    store.remove_device(DEVICE)
    assert store.contacts(DEVICE) == []
    assert store.enrolment(DEVICE) is None


def test_the_right_code_wipes_the_slate(stages):
    gate = Gate(stages(limits=Limits(attempts_device=2)))
    for _ in range(3):
        gate.ask()
        assert gate.verdict(other(gate.stage.code)) == WRONG
        assert gate.verdict(gate.stage.code) == RIGHT


def test_the_code_of_duress_is_never_the_other_one(stages, monkeypatch):
    drawn = iter(("111111", "111111", "111111", "222222"))
    monkeypatch.setattr(otp, "draw", lambda _: next(drawn))
    gate = Gate(stages(gated(duress=True)))
    gate.ask()
    assert (gate.stage.posted[0].code, gate.stage.posted[0].duress) == ("111111", "222222")


def test_under_duress(stages):
    gate = Gate(stages(gated(duress=True)))
    stage = gate.stage
    contacts = [Contact("alarm", "webhook", "guard"), Contact("code", "mail", "a@example.org")]
    stage.store.set_contacts(DEVICE, contacts)
    gate.ask()
    [message] = stage.posted
    assert message.duress not in ("", message.code)
    [answer] = gate.type(message.duress)
    assert (answer["isOTPValid"], answer["isTimeOut"]) == RIGHT
    gate.ask()
    [plain] = gate.type(stage.code)
    changing = {"req", "time"}
    assert {k: v for k, v in answer.items() if k not in changing} == {
        k: v for k, v in plain.items() if k not in changing
    }
    alarm = stage.posted[1]
    assert (alarm.purpose, alarm.way, alarm.address) == ("alarm", "webhook", "guard")
    assert alarm.code == alarm.duress == ""
    assert "duress" in alarm.text
    assert stage.store.incidents(DEVICE)[0].code == "duress"


def test_duress_where_the_device_verifies_codes(stages):
    gate = Gate(stages(gated(source="totp", duress=True)))
    body = {"code": "duress", "n": 1, "at": ""}
    gate.stage.receive("incident", gate.peer.seal("incident", [0, None, body]))
    [alarm] = gate.stage.posted
    assert (alarm.purpose, alarm.way) == ("alarm", "console")


def test_a_device_that_cries_for_help_all_day(stages):
    """It may be a bug, or a thief who fills the owner's mailbox and the queue that other devices'
    codes go through."""
    gate = Gate(stages(gated(source="totp", duress=True)))
    stage = gate.stage
    body = {"code": "duress", "n": 1, "at": ""}
    for _ in range(50):
        gate.stage.receive("incident", gate.peer.seal("incident", [0, None, body]))
    assert len(stage.posted) == 1
    assert [row.n for row in stage.store.incidents(DEVICE)] == [50]
    stage.pass_time(61)
    gate.stage.receive("incident", gate.peer.seal("incident", [0, None, body]))
    assert len(stage.posted) == 2


def test_a_cry_for_help_of_a_device_that_has_no_code_for_it(stages):
    gate = Gate(stages(gated(source="totp", duress=False)))
    body = {"code": "duress", "n": 1, "at": ""}
    gate.stage.receive("incident", gate.peer.seal("incident", [0, None, body]))
    assert gate.stage.posted == []
    assert [row.code for row in gate.stage.store.incidents(DEVICE)] == ["duress"]


@pytest.mark.parametrize("device", [SEALED, gated(source="totp"), gated(source="hotp")])
def test_no_code_for_who_has_no_such_gate(stages, device):
    gate = Gate(stages(device))
    assert gate.ask() == []
    assert gate.type("123456") == []
    assert gate.stage.posted == []
    assert gate.stage.codes() == ["not-applicable", "not-applicable"]
    assert gate.stage.store.code(DEVICE) is None


@pytest.mark.parametrize("mode", ["sealed", "plain"])
@pytest.mark.parametrize("revoked", [False, True])
def test_no_code_for_a_device_that_is_to_be_wiped(stages, mode, revoked):
    """A thief who lets it connect gets its owner no message, and no chance to guess."""
    gate = Gate(stages(gated(mode)), sealed=mode == "sealed")
    gate.ask()
    stage = gate.stage
    with stage.store.transaction():
        stage.store.order_ending(DEVICE, revoked, True, 1.0)
    state = stage.engine.state(DEVICE)
    state.device = replace(state.device, ending=stage.store.ending(DEVICE))
    assert [each for each in gate.type(stage.code) if "isOTPValid" in each] == []
    assert [each for each in gate.ask() if "validity" in each] == []
    assert len(stage.posted) == 1
    assert "revoked" in stage.codes()


@pytest.mark.parametrize(
    "change",
    [
        {"req": "A" * 32},
        {"req": "a" * 31},
        {"req": 5},
        {"req": "a" * 32 + "\n"},
        {"otp": "12345a"},
        {"otp": ""},
        {"otp": "1" * 17},
        {"otp": 123456},
        {"otp": "１２３４５６"},
        {"deviceId": "D2"},
        {"event": "server_otp_request"},
        {"extra": 1},
    ],
)
def test_messages_of_another_form(gate, change):
    gate.ask()
    body = {"event": "device_otp_response", "deviceId": DEVICE, "req": gate.req}
    assert gate.send_event("device_otp_response", body | {"otp": gate.stage.code} | change) == []
    assert gate.stage.codes() == ["bad-body"]
    assert gate.stage.store.code(DEVICE).tries == 0
    for key in ("req", "otp", "event", "deviceId"):
        lacking = {name: value for name, value in body.items() if name != key}
        assert gate.send_event("device_otp_response", lacking) == []
    assert gate.verdict(gate.stage.code) == RIGHT


def test_only_the_authority_gives_codes(stages):
    stage = stages()
    peer = PeerDevice(K["lights"], policy.policy_hash(gated().policy), "lights")
    stage.handshake(peer, "lights")
    body = {"event": "server_otp_request", "deviceId": DEVICE, "req": "0" * 32}
    data = peer.seal("server_otp_request", [0, None, body])
    stage.receive("server_otp_request", data, "lights")
    assert stage.posted == []
    assert stage.store.code(DEVICE) is None
    assert stage.store.events(DEVICE) == []


# fmt: skip
@pytest.mark.parametrize(
    ("apps", "by"), [(("authority",), "authority"), (("authority", "lights"), "lights")]
)
def test_plain_mode_answers_as_an_application_of_the_device(stages, apps, by):
    gate = Gate(stages(gated("plain", apps)), sealed=False)
    [answer] = gate.ask()
    assert (answer["by"], answer["appid"], answer["uid"]) == (by, by, UID[by].hex())
    assert gate.verdict(other(gate.stage.code)) == WRONG
    assert gate.verdict(gate.stage.code) == RIGHT
    assert gate.stage.store.events(DEVICE) == []


@pytest.mark.parametrize("mode", ["sealed", "plain"])
def test_the_code_is_nowhere_but_at_its_owner(stages, mode):
    gate = Gate(stages(gated(mode, digits=10, duress=True)), sealed=mode == "sealed")
    stage = gate.stage
    gate.ask()
    message = stage.posted[0]
    stage.report("it did not get through")
    for typed in (other(message.code), message.code):
        gate.type(typed)
    gate.ask()
    gate.type(stage.posted[-1].duress)
    said = stage.all_said() + repr(stage.posted) + repr(stage.store.code(DEVICE))
    codes, alarm = stage.posted[:-1], stage.posted[-1]
    assert (len(codes), alarm.purpose) == (2, "alarm")
    secrets = {each.code for each in codes} | {each.duress for each in codes}
    assert {len(secret) for secret in secrets} == {10}
    assert len(secrets) == 4
    for secret in secrets:
        assert secret not in said


def test_codes_are_hashed_under_a_key_that_the_database_does_not_hold(gate):
    gate.ask()
    kept = gate.stage.store.code(DEVICE)
    assert kept.digest not in {
        otp.hashlib.sha256(gate.stage.code.encode()).digest(),
        otp.hmac.new(b"", cbor2.dumps(["warden otp 1", DEVICE, gate.req, gate.stage.code]), "sha256").digest(),
    }  # fmt: skip
    said = cbor2.dumps(["warden otp 1", DEVICE, gate.req, gate.stage.code])
    assert kept.digest == otp.hmac.new(PEPPER, said, "sha256").digest()
    assert PEPPER.hex() not in "\n".join(gate.stage.store._db.iterdump()).lower()


def test_the_hash_of_a_used_code_is_gone(gate):
    gate.ask()
    digest = gate.stage.store.code(DEVICE).digest
    gate.type(gate.stage.code)
    assert gate.stage.store.code(DEVICE).digest is None
    assert digest.hex() not in "\n".join(gate.stage.store._db.iterdump()).lower()


def test_codes_are_compared_in_constant_time(gate, monkeypatch):
    compared = []
    genuine = otp.hmac.compare_digest
    monkeypatch.setattr(
        otp.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or genuine(a, b)
    )
    gate.ask()
    compared.clear()
    gate.type(other(gate.stage.code))
    wrong = [len(a) for a, _ in compared if len(a) == 32]
    compared.clear()
    gate.type(gate.stage.code)
    assert [len(a) for a, _ in compared if len(a) == 32] == wrong == [32, 32]


@pytest.mark.parametrize("command", ["server_otp_response", "server_otp_validate"])
def test_only_the_handler_sends_the_two_answers(gate, command):
    """An application that could would open the gate of each of its devices."""
    with refused("reserved-command"):
        names.check_grant(command)
    with refused("reserved-command"):
        commands.job(gate.stage.engine, Request(DEVICE, command, {}))


def test_codes_are_drawn_evenly(monkeypatch):
    drawn = [otp.draw(6) for _ in range(2000)]
    assert all(len(each) == 6 and each.isdigit() for each in drawn)
    assert len(set(drawn)) > 1900
    assert any(each[0] == "0" for each in drawn)
    monkeypatch.setattr(otp.secrets, "randbelow", lambda top: top - 1)
    assert otp.draw(10) == "9" * 10
    monkeypatch.setattr(otp.secrets, "randbelow", lambda top: 7)
    assert otp.draw(6) == "000007"


def test_the_pepper_is_made_once_and_is_a_secret(tmp_path):
    made = otp.pepper(tmp_path)
    assert len(made) == 32
    assert otp.pepper(tmp_path) == made
    path = tmp_path / "otp.pepper"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with refused("key-permissions"):
        otp.pepper(tmp_path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with refused("key-damaged"):
        otp.pepper(tmp_path)


def test_a_delivery_that_failed_is_shown(gate):
    gate.ask()
    gate.stage.report("the mail server can't be reached")
    assert gate.stage.news[-1].code == "otp-delivery"
    assert gate.stage.store.deliveries(DEVICE)[0].error == "the mail server can't be reached"
    gate.stage.report()
    assert gate.stage.store.deliveries(DEVICE)[0].error == ""


def test_a_device_that_is_provisioned_again_has_no_old_code(gate):
    gate.ask()
    gate.stage.store.add_device(gated())
    assert gate.stage.store.code(DEVICE) is None


def test_a_request_is_remembered_for_a_while_only(gate):
    gate.stage.handler._codes._limits = Limits(requests_device=100)
    for _ in range(40):
        gate.ask()
    assert len(gate.stage.store.code(DEVICE).past) == 16


def test_a_device_that_was_wiped_has_no_result_of_a_delivery(gate):
    stage = gate.stage
    stage.handler.delivered(Delivered("gone", "mail", "code", 1.0, "no answer"))
    assert stage.store.incidents("gone") == [] == stage.store.deliveries("gone")


def test_without_a_second_secret_there_is_no_code_of_duress():
    enrolled = enrol.new(DEVICE, "totp", 6, duress=False)
    assert enrol.uri(enrolled).startswith("otpauth://")
    with refused("bad-argument"):
        enrol.uri(enrolled, duress=True)
