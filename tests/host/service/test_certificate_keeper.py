"""Which certificates `warden serve` renews by itself, when, and what it tells of them."""

import queue
import time

import pytest
from host_kit import new_fleet, refused
from process_kit import PATIENCE_S
from warden_host.devices import certificates
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet import client_pki, fleet, pki
from warden_host.protocol import policy
from warden_host.service import certificate_keeper
from warden_host.service.certificate_keeper import CertificateKeeper, due_renewals
from warden_host.store.store import Device, Store

DAY = 86400.0


class AuthorityModel:
    """Devices that are online, and answer nothing but one error."""

    def __init__(self) -> None:
        self.present = {"D1", "D2"}
        self.error = "timed-out"
        self.asked: list[str] = []

    def ask(self, question):
        return question(self)

    def online(self):
        return self.present

    def command(self, request):
        self.asked.append(request.device)
        if self.error == "":
            raise AssertionError("not in this test")
        if self.error == "timed-out":
            raise HostError(self.error, "no answer")
        return {"ok": False, "reply": {"error": self.error}}


@pytest.fixture
def made(tmp_path):
    created = new_fleet(tmp_path)
    with (created.root / "warden.toml").open("a") as file:
        file.write("[connection]\nrenew_days = 20\n")
    created = fleet.Fleet(created.root)
    client_pki.create(created)
    return created


def add(made, name: str, days: int, auth: str = "certificate", **changes: object) -> None:
    device = Device(name, "lock", "UNIX", "sealed", policy.record(auth=auth), pairs=())
    row = certificates.issue(client_pki.load_issuer(made), device, "ec", days).row
    with Store(made.database) as store, store.transaction():
        store.add_device(device)
        store.add_certificate(row)


def due(made, after_days: float) -> list[str]:
    with Store(made.database) as store:
        found = due_renewals(made, store, time.time() + after_days * DAY)
    return [known.device for known, _ in found]


def test_which_are_due(made):
    add(made, "D1", 365)
    add(made, "D2", 30)
    add(made, "B1", 366, "certificate-and-password")
    assert due(made, 0) == due(made, 19) == []
    assert due(made, 21) == ["D2"]  # in the last third of its life
    assert due(made, 31) == []  # it has ended: no link brings it another one
    assert due(made, 346.5) == ["D1", "B1"]
    with Store(made.database) as store, store.transaction():
        store.order_ending("D1", revoked=True, wipe=False, moment=1.0)
    assert due(made, 346.5) == ["B1"]
    path = made.root / "warden.toml"
    path.write_text(path.read_text().replace("renew_days = 20", "renew_days = 0"))
    assert due(fleet.Fleet(made.root), 346.5) == []


def test_one_that_began_is_completed(made):
    add(made, "D1", 365)
    with Store(made.database) as store, store.transaction():
        issued = certificates.issue(client_pki.load_issuer(made), store.device("D1"), "ec")
        store.add_certificate(issued.row)
        store.add_rotation("D1", {"certificate": issued.record()})
    assert due(made, 0) == ["D1"]


def test_a_failure_has_a_pause_that_doubles(made, monkeypatch):
    monkeypatch.setattr(certificate_keeper, "_RENEWAL_S", 0.0)
    monkeypatch.setattr(certificates, "update_crl", lambda *_: None)
    for name in ("D1", "D2", "D3"):
        add(made, name, 365)
    now = [time.time() + 350 * DAY]
    told: list[FleetEvent] = []
    model = AuthorityModel()
    keeper = CertificateKeeper(made, model, lambda: None, told.append, None, lambda: now[0])
    pauses = []
    for hours in (0, 0.5, 0.6, 1.5, 0.6, 40, 23, 2):
        now[0] += hours * 3600
        before = len(model.asked)
        keeper.check()
        pauses.append(len(model.asked) - before)
    # D3 is not online. After an hour, two, four; and a look in between does nothing.
    assert pauses == [2, 0, 2, 0, 2, 2, 2, 0]
    texts = [one.text for one in told if one.code == "timed-out"]
    assert "the certificate of D1 was not renewed, tried again in 1 h:" in texts[0]
    assert "tried again in 4 h" in texts[4]
    # What ends soon is told once a day, by the looks that come.
    assert sum("ends in" in one.text for one in told) >= 3


def test_no_more_than_some_at_once(made, monkeypatch):
    monkeypatch.setattr(certificate_keeper, "_RENEWAL_S", 0.0)
    monkeypatch.setattr(certificate_keeper, "MOST_AT_ONCE", 2)
    monkeypatch.setattr(certificates, "update_crl", lambda *_: None)
    model = AuthorityModel()
    model.present = {f"D{at}" for at in range(5)}
    for name in sorted(model.present):
        add(made, name, 365)
    model.error = "unknown-command"
    moment = time.time() + 350 * DAY
    keeper = CertificateKeeper(made, model, lambda: None, lambda _: None, None, lambda: moment)
    for _ in range(3):
        keeper.check()
    assert model.asked == sorted(model.present)


def test_without_the_passphrase_it_is_told_and_not_tried(made):
    add(made, "D1", 365)
    path = made.keys / f"{client_pki.ISSUER}.key"
    path.write_bytes(pki.ca_key_pem(pki.load_key(path), b"a passphrase"))
    model, told = AuthorityModel(), []
    moment = time.time() + 350 * DAY
    CertificateKeeper(made, model, lambda: None, told.append, None, lambda: moment).check()
    assert model.asked == []
    assert ["`warden cert renew D1`" in one.text for one in told] == [True]
    with refused("passphrase-wrong"):
        wrong = CertificateKeeper(made, model, lambda: None, told.append, b"wrong", lambda: moment)
        wrong.check()


def test_the_server_s_end_is_told_in_a_fleet_without_certificates(tmp_path):
    plain = new_fleet(tmp_path)
    end = pki.load_certificate(plain.keys / "server.crt").not_valid_after_utc.timestamp()
    told: list[FleetEvent] = []
    keeper = CertificateKeeper(
        plain, AuthorityModel(), lambda: None, told.append, None, lambda: end - 5.5 * DAY
    )
    for _ in range(2):
        keeper.check()
    assert [one.text for one in told] == [
        "the server certificate ends in 5 days: `warden cert renew-server`"
    ]


@pytest.mark.parametrize("days", [-1, 366, True, "30", 1.5])
def test_days_that_are_none(made, days):
    import tomli_w

    document = made.document | {"connection": {"renew_days": days}}
    (made.root / "warden.toml").write_text(tomli_w.dumps(document))
    with refused("config-malformed"):
        due(fleet.Fleet(made.root), 0)


def test_a_device_whose_certificate_was_renewed_has_no_pause(made, monkeypatch):
    monkeypatch.setattr(certificates, "update_crl", lambda *_: None)
    add(made, "D1", 365)
    now = [time.time() + 350 * DAY]
    fails = [True, False, True]

    def renew(*_, **__):
        if fails.pop(0):
            raise HostError("timed-out", "no answer")

    monkeypatch.setattr(certificate_keeper.renewal, "renew", renew)
    told: list[FleetEvent] = []
    keeper = CertificateKeeper(
        made, AuthorityModel(), lambda: None, told.append, None, lambda: now[0]
    )
    for _ in range(3):
        keeper.check()
        now[0] += 1.5 * 3600
    assert [one.text.partition(":")[0] for one in told if " renewed, " in one.text] == [
        "the certificate of D1 was not renewed, tried again in 1 h",
        "the certificate of D1 was renewed, for 365 days",
        "the certificate of D1 was not renewed, tried again in 1 h",
    ]


def test_at_its_end_no_further_device_is_asked(made, monkeypatch):
    monkeypatch.setattr(certificates, "update_crl", lambda *_: None)
    for name in ("D1", "D2"):
        add(made, name, 365)
    model, told = AuthorityModel(), []
    moment = time.time() + 350 * DAY
    keeper = CertificateKeeper(made, model, lambda: None, told.append, None, lambda: moment)
    asked = model.command

    def command(request):
        keeper.__exit__()
        return asked(request)

    model.command = command
    with pytest.raises(certificate_keeper._Stopping):
        keeper.check()
    assert model.asked == ["D1"]


def test_a_look_that_fails_is_told_and_ends_nothing(made, monkeypatch):
    told: queue.SimpleQueue[FleetEvent] = queue.SimpleQueue()
    keeper = CertificateKeeper(made, AuthorityModel(), lambda: None, told.put, None)
    ended = [HostError("database-damaged", "no"), OSError(28, "No space left on device")]

    def check() -> None:
        keeper.wake()
        raise ended.pop(0) if ended else certificate_keeper._Stopping

    monkeypatch.setattr(keeper, "check", check)
    with keeper:
        codes = [told.get(timeout=PATIENCE_S).code for _ in range(2)]
        keeper._thread.join(PATIENCE_S)
        assert not keeper._thread.is_alive()  # by what it raises at its end
    assert codes == ["database-damaged", ""]
