"""Test delivery by mail and webhook, with servers that are slow, dead or hostile."""

import contextlib
import hashlib
import hmac
import json
import queue
import socket
import ssl
import threading
import time
from email import message_from_bytes, policy

import pytest
from delivery_kit import HERE, PASSWORD, SECRET, Hook, make_secrets, server_context, start_mail
from host_kit import new_fleet, refused
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_host.fleet.fleet import Fleet
from warden_host.otp import settings as otp_settings
from warden_host.otp.notify import delivery, webhook
from warden_host.otp.notify import mail as delivery_mail
from warden_host.otp.notify.console import ConsoleWay
from warden_host.otp.notify.delivery import DeliveryQueues, Message, Undelivered
from warden_host.otp.notify.mail import MailWay
from warden_host.otp.notify.webhook import WebhookWay
from warden_host.otp.settings import Mail, Webhook


def message(**changes) -> Message:
    given = {
        "device": "front-door",
        "purpose": "code",
        "way": "mail",
        "address": "alice@example.org",
        "validity": 300,
        "expires": time.monotonic() + 3000,
        "code": "824613",
    }
    return Message(**given | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CA, a server's key, and the secrets that deliveries read."""
    return make_secrets(tmp_path_factory.mktemp("delivery"))


# Mail

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@pytest.fixture
def mail_server(folder):
    made = []

    def start(security: str, certificate: str = "leaf.pem", **settings):
        box, controller = start_mail(folder, security, certificate)
        made.append(controller)
        user = "" if security == "none" else "warden"
        ca = None if security == "none" else folder / "ca.pem"
        chosen = {"user": user, "ca": ca} | settings
        return box, Mail(HERE, controller.port, security, "warden@example.org", **chosen)

    yield start
    for each in made:
        each.stop()


@pytest.mark.parametrize("security", ["tls", "starttls", "none"])
def test_a_mail_arrives(mail_server, folder, security):
    box, settings = mail_server(security)
    MailWay(settings, folder).send(message(duress="551122"))
    [(envelope, session)] = box.mails
    assert envelope.rcpt_tos == ["alice@example.org"]
    assert (session.ssl is not None) == (security == "starttls")
    assert bool(session.authenticated) == (security != "none")
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert "824613" not in str(mail["Subject"]), "subjects show on locked screens"
    text = mail.get_content()
    assert "Code: 824613" in text
    assert "Under duress: 551122" in text
    assert mail["To"] == "alice@example.org"
    assert mail["From"] == "warden@example.org"
    assert mail["Auto-Submitted"] == "auto-generated"


def test_an_alarm_by_mail(mail_server, folder):
    box, settings = mail_server("tls")
    MailWay(settings, folder).send(message(purpose="alarm", code="", text="under duress"))
    mail = message_from_bytes(box.mails[0][0].content, policy=policy.default)
    assert "under duress" in mail["Subject"]


def failure(way, told: Message | None = None) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        way.send(told or message())
    why = caught.value.why
    assert "824613" not in why
    assert "alice" not in why
    assert PASSWORD not in why
    return caught.value


def test_a_mail_server_with_a_foreign_certificate(mail_server, folder):
    for security in ("tls", "starttls"):
        box, settings = mail_server(security, "stranger.pem")
        assert "TLS" in failure(MailWay(settings, folder)).why
        assert box.mails == []


def test_a_mail_server_that_offers_no_starttls(mail_server, folder):
    box, settings = mail_server("none")
    bare = Mail(HERE, settings.port, "starttls", "warden@example.org", ca=folder / "ca.pem")
    failure(MailWay(bare, folder))
    assert box.mails == []


def test_a_mail_server_that_refuses(mail_server, folder):
    box, settings = mail_server("tls")
    unknown = message(address="nobody@example.org")
    assert failure(MailWay(settings, folder), unknown).final
    box.refusal = "450 greylisted 824613"  # RFC 6647: it is taken when it comes again
    assert not failure(MailWay(settings, folder), unknown).final
    box.answer = "451 later 824613"
    assert not failure(MailWay(settings, folder)).final
    box.answer = "554 never 824613"
    assert failure(MailWay(settings, folder)).final
    _, stranger = mail_server("tls", user="mallory")
    assert "refused user or password" in failure(MailWay(stranger, folder)).why


@pytest.mark.parametrize("goodbye", ["421 too busy", "554 no", "221 " + "x" * 9000, ""])
def test_a_mail_that_was_taken_was_sent_however_it_ends(mail_server, folder, goodbye):
    box, settings = mail_server("tls")
    box.goodbye = goodbye
    MailWay(settings, folder).send(message())
    assert len(box.mails) == 1
    # One that was not taken stays untaken, with the reason that it has.
    box.answer = "554 never"
    assert failure(MailWay(settings, folder)).why == "the mail server said 554"


def test_a_mail_password_that_others_can_read(mail_server, folder, tmp_path):
    box, settings = mail_server("tls")
    path = tmp_path / "otp-mail.password"
    path.write_text(PASSWORD)
    path.chmod(0o644)
    assert "can be read by others" in failure(MailWay(settings, tmp_path)).why
    assert box.mails == []


def test_a_mail_server_that_is_gone_or_silent(folder, monkeypatch):
    monkeypatch.setattr(delivery_mail, "TIMEOUT_S", 0.2)
    (port,) = free_ports(1)  # which nothing else takes once it is gone
    with socket.create_server((HERE, port)):
        settings = Mail(HERE, port, "none", "warden@example.org")
        assert "hung up" in failure(MailWay(settings, folder)).why
    assert "can't be reached" in failure(MailWay(settings, folder)).why


MUCH = 1 << 24


class Talker:
    """A server that says one thing again and again, with a pause in between, whatever it hears."""

    def __init__(self, text: bytes, pause_s: float, context: ssl.SSLContext | None = None) -> None:
        self._text, self._pause_s, self._context = text, pause_s, context
        self._server = socket.create_server((HERE, 0))
        self.port = self._server.getsockname()[1]
        self.said = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def _talk(self):
        with contextlib.suppress(OSError):
            line, _ = self._server.accept()
            if self._context is not None:
                line = self._context.wrap_socket(line, server_side=True)
            with line:
                while self.said < MUCH and not self._over.wait(self._pause_s):
                    line.sendall(self._text)
                    self.said += len(self._text)

    def __exit__(self, *_):
        self._over.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes accept(), where no client connects
        self._server.close()
        self._thread.join()


@pytest.mark.parametrize(("text", "pause_s"), [(b"2", 0.05), (b"220-go on\r\n" * 1000, 0)])
def test_a_mail_server_that_talks_for_ever(folder, monkeypatch, text, pause_s):
    monkeypatch.setattr(delivery, "WHOLE_S", 1.0 if pause_s else 60.0)
    with Talker(text, pause_s) as talker:
        settings = Mail(HERE, talker.port, "starttls", "warden@example.org")
        # It never hangs up by itself: we do.
        assert "hung up" in failure(MailWay(settings, folder)).why
    assert talker.said < MUCH


# Webhook


def hook_message(**changes) -> Message:
    return message(way="webhook", address="alice", **changes)


def test_a_webhook_gets_authenticated_messages(folder):
    with Hook(folder) as hook:
        way = WebhookWay(Webhook(hook.url, folder / "ca.pem"), folder)
        way.send(hook_message(duress="551122"))
        way.send(hook_message(purpose="alarm", code="", text="under duress"))
    (path, headers, data), (_, _, alarm) = hook.taken
    assert path == "/codes"
    said = json.loads(data)
    assert {key: said[key] for key in said if key != "time"} == {
        "v": 1,
        "purpose": "code",
        "device": "front-door",
        "to": "alice",
        "code": "824613",
        "duress": "551122",
        "validity": 300,
    }
    assert json.loads(alarm)["text"] == "under duress"
    assert "code" not in json.loads(alarm)
    stamp = headers["Warden-Timestamp"]
    assert abs(int(stamp) - time.time()) < 3000
    expected = hmac.new(SECRET, stamp.encode() + b"." + data, hashlib.sha256).hexdigest()
    assert headers["Warden-Signature"] == "v1=" + expected


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (101, True),
        (301, True),
        (307, True),
        (400, True),
        (404, True),
        (429, False),
        (500, False),
        (503, False),
    ],
)
def test_a_webhook_that_refuses(folder, status, final):
    with Hook(folder) as hook:
        hook.status = status
        way = WebhookWay(Webhook(hook.url, folder / "ca.pem"), folder)
        assert failure(way, hook_message()).final is final
    assert len(hook.taken) == 1, "no redirect is followed"


def test_a_webhook_with_a_foreign_certificate(folder):
    with Hook(folder, "stranger.pem") as hook:
        assert "TLS" in failure(WebhookWay(Webhook(hook.url, folder / "ca.pem"), folder)).why
        assert "TLS" in failure(WebhookWay(Webhook(hook.url), folder)).why
    assert hook.taken == []


def test_a_webhook_whose_key_is_short_or_readable(folder, tmp_path):
    path = tmp_path / "otp-webhook.secret"
    with Hook(folder) as hook:
        way = WebhookWay(Webhook(hook.url, folder / "ca.pem"), tmp_path)
        path.write_bytes(b"short")
        path.chmod(0o600)
        assert "shorter" in failure(way, hook_message()).why
        path.write_bytes(SECRET)
        path.chmod(0o640)
        assert "can be read by others" in failure(way, hook_message()).why
    assert hook.taken == []


def test_a_webhook_that_is_gone_or_silent(folder, monkeypatch):
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.2)
    (port,) = free_ports(1)
    url = f"https://{HERE}:{port}/"
    with socket.create_server((HERE, port)):
        says_nothing = failure(WebhookWay(Webhook(url, folder / "ca.pem"), folder), hook_message())
    gone = failure(WebhookWay(Webhook(url, folder / "ca.pem"), folder), hook_message())
    assert "TimeoutError" in says_nothing.why
    assert "ConnectionRefusedError" in gone.why


# The post


class Scripted:
    """Does what the script says, one entry a call; then takes everything."""

    def __init__(self, *script) -> None:
        self.script = list(script)
        self.taken: list[Message] = []

    def send(self, told: Message) -> None:
        step = self.script.pop(0) if self.script else None
        if isinstance(step, threading.Event):
            step.wait(PATIENCE_S)
        elif step is not None:
            raise step
        self.taken.append(told)


def post(way, **settings):
    reports: queue.Queue = queue.Queue()
    made = DeliveryQueues({"mail": way}, lambda told, why: reports.put((told, why)), **settings)
    return made, reports


@pytest.mark.parametrize(
    ("text", "pause_s"), [(b"H", 0.05), (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0)]
)
def test_a_webhook_that_talks_for_ever(folder, monkeypatch, text, pause_s):
    monkeypatch.setattr(delivery, "WHOLE_S", 1.0 if pause_s else 60.0)
    with Talker(text, pause_s, server_context(folder)) as talker:
        settings = Webhook(f"https://{HERE}:{talker.port}/codes", folder / "ca.pem")
        with pytest.raises(Undelivered, match="can't be reached"):
            WebhookWay(settings, folder).send(hook_message())
    assert talker.said < MUCH


def test_an_answer_is_not_read_beyond_its_time():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 204")
        reader = delivery.LimitedReader(ours, 1.0, time.monotonic() - 1)
        with pytest.raises(TimeoutError):
            reader.read(1)


def test_the_post_tries_again_a_bounded_number_of_times():
    way = Scripted(Undelivered("a"), Undelivered("b"))
    made, reports = post(way, pauses=(0, 0))
    with made:
        made.put(message())
        assert reports.get(timeout=PATIENCE_S)[1] == ""
        way.script = [Undelivered("a"), Undelivered("b"), Undelivered("c"), None]
        made.put(message())
        assert reports.get(timeout=PATIENCE_S)[1] == "c"
        assert way.script == [None]
        way.script = [Undelivered("never", final=True), None]
        made.put(message())
        assert reports.get(timeout=PATIENCE_S)[1] == "never"
        assert way.script == [None]


def test_a_bug_in_a_way_costs_one_message():
    way = Scripted(RuntimeError("824613"))
    made, reports = post(way, pauses=())
    with made:
        made.put(message())
        why = reports.get(timeout=PATIENCE_S)[1]
        assert "RuntimeError" in why
        assert "824613" not in why
        made.put(message())
        assert reports.get(timeout=PATIENCE_S)[1] == ""


def test_a_code_that_ran_out_is_not_sent():
    way = Scripted()
    made, reports = post(way)
    with made:
        made.put(message(expires=time.monotonic()))
        assert "too late" in reports.get(timeout=PATIENCE_S)[1]
    assert way.taken == []


def test_a_hanging_delivery_delays_no_other():
    stuck = threading.Event()
    reports: queue.Queue = queue.Queue()
    hanging, quick = Scripted(stuck), Scripted()
    made = DeliveryQueues(
        {"mail": hanging, "console": quick}, lambda told, why: reports.put((told, why))
    )
    with made:
        for _ in range(delivery.BACKLOG + 50):
            made.put(message())
        made.put(message(way="console"))
        assert not stuck.is_set()  # put() waited for nothing
        refusals = 0
        while (told := reports.get(timeout=PATIENCE_S))[0].way != "console":
            refusals += "wait already" in told[1]
        assert told[1] == ""
        assert refusals in (49, 50)
        stuck.set()


def test_a_way_that_is_not_set_up():
    made, reports = post(Scripted())
    with made:
        made.put(message(way="webhook"))
        assert "was not set up" in reports.get(timeout=PATIENCE_S)[1]


# The console


def test_the_console_shows_what_is_valid_and_then_what_comes():
    now = [100.0]
    way = ConsoleWay(lambda: now[0])
    gone = threading.Event()
    way.send(message(device="D1", code="111111", expires=110.0))
    way.send(message(device="D2", code="222222", expires=200.0, duress="333333"))
    now[0] = 120.0
    shown: list = []
    way.watch(shown.append, gone)
    assert [(each["device"], each["code"], each["left"]) for each in shown] == [
        ("D2", "222222", 80)
    ]
    assert shown[0]["duress"] == "333333"
    way.send(message(device="D3", purpose="alarm", code="", text="help", expires=999.0))
    assert shown[1] | {"time": 0} == {
        "purpose": "alarm",
        "device": "D3",
        "time": 0,
        "text": "help",
    }
    gone.set()
    way.send(message(device="D1", code="444444", expires=999.0))
    assert len(shown) == 2


# The settings


GOOD_MAIL = {"host": "mail.example.org", "from": "warden@example.org"}


@pytest.fixture
def settings(tmp_path):
    """Reads a fleet's settings with this [otp]."""
    made = new_fleet(tmp_path)

    def read(table):
        made.document["otp"] = table
        return otp_settings.load(made)

    read.fleet = made  # type: ignore[attr-defined]
    return read


def test_settings(settings):
    assert settings({}) == otp_settings.OtpSettings()
    assert Fleet(settings.fleet.root).document.get("otp") is None
    full = settings(
        {
            "requests_device": 3,
            "policy": {"source": "authority", "digits": 8},
            "mail": GOOD_MAIL | {"security": "starttls", "user": "w", "ca": "mail-ca.pem"},
            "webhook": {"url": "https://hooks.example.org/codes"},
        }
    )
    assert full.limits.requests_device == 3
    assert full.mail.port == 587
    assert full.mail.ca == settings.fleet.root / "mail-ca.pem"
    assert full.gate == {"source": "authority", "digits": 8}
    assert settings({"mail": GOOD_MAIL}).mail.security == "tls"
    assert settings({"mail": GOOD_MAIL}).mail.port == 465
    assert settings({"mail": GOOD_MAIL | {"host": HERE, "security": "none"}}).mail.port == 25


@pytest.mark.parametrize(
    "table",
    [
        "authority",
        {"request_device": 3},
        {"requests_device": 0},
        {"requests_device": True},
        {"attempts_device": 100_000},
        {"policy": {"digits": 5}},
        {"policy": {"digit": 6}},
        {"policy": []},
        {"mail": GOOD_MAIL | {"security": "none"}},
        {"mail": GOOD_MAIL | {"security": "ssl"}},
        {"mail": GOOD_MAIL | {"password": "p"}},
        {"mail": GOOD_MAIL | {"host": "a b"}},
        {"mail": GOOD_MAIL | {"from": "warden"}},
        {"mail": GOOD_MAIL | {"from": "a@b\nBcc: c@d"}},
        {"mail": GOOD_MAIL | {"port": 65536}},
        {"mail": {"host": "mail.example.org"}},
        {"webhook": {"url": "http://hooks.example.org/"}},
        {"webhook": {"url": "https://user:secret@hooks.example.org/"}},
        {"webhook": {"url": "https://:secret@hooks.example.org/"}},
        {"webhook": {"url": "https://hooks.example.org/ä"}},
        {"webhook": {"url": "https://hooks.example.org/\x7f"}},
        {"webhook": {"url": "https://hooks.example.org/?token=secret"}},
        {"webhook": {"url": "https://hooks.example.org/#x"}},
        {"webhook": {"url": "https://hooks.example.org:99999/"}},
        {"webhook": {"url": "https:///codes"}},
        {"webhook": {"url": "https://hooks.example.org/a b"}},
        {"webhook": {"url": "https://hooks.example.org/", "secret": "s"}},
    ],
)
def test_settings_that_are_wrong(settings, table):
    with refused("config-malformed"):
        settings(table)


@pytest.mark.parametrize("address", ["a@b", "alice+door@example.org", "o'neil@example.org"])
def test_mail_addresses(address):
    assert otp_settings.is_mail(address)


@pytest.mark.parametrize(
    "address",
    ["", "a", "@b", "a@", "a b@c", "a@b\n", "a\r\nBcc: x@y@z", "<a@b>", "a,b@c", "ä@b", "a@" + "b" * 260],
)  # fmt: skip
def test_no_mail_addresses(address):
    assert not otp_settings.is_mail(address)
