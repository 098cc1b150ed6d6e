"""The real device sessions and the real application sessions around a network that belongs to an
adversary, in simulated time.

`World` does what it is told and holds every message, every sealing and every command against what
may be; test_session_model.py lets hypothesis tell it. The device runs behind
tests/cpython/session_driver.py, so what was done to it can be done again on the unix port.
"""

import copy
import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
from warden_client.protocol import cose, session
from warden_client.protocol.session import (
    DeviceMark,
    Instant,
    Outcome,
    Proof,
    Quarantined,
    Received,
    Refused,
    Send,
    Session,
)
from warden_host.names import Address

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tests" / "cpython"), str(REPO / "lib")]

from session_driver import Driver  # noqa: E402  (the path must be set first)

TYPE = "door"
POLICY = hashlib.sha256(b"policy").digest()
UNIX = 1_800_000_000
# An attempt of 30 s may be under way on either side of the longest back-off, and a wake comes once
# a minute.
RECOVERY_MS = 200_000


class Crash(Exception):
    """The application's process ends here."""


@dataclass(frozen=True)
class Message:
    """On the wire. way: evt or cmd. device: on whose topic."""

    way: str
    name: str
    data: bytes
    device: str


@dataclass
class Command:
    app: str
    sid: str
    deadline_ms: int
    order: int


@dataclass
class App:
    """An application's process and its disk."""

    address: Address
    key: bytes
    proven: Proof | None = None
    session: Session = field(init=False)


class Chance:
    """Stands in for `secrets`: repeatable, or one constant for ever."""

    def __init__(self) -> None:
        self.weak = False
        self.draws = 0

    def token_bytes(self, count: int) -> bytes:
        self.draws += not self.weak
        return hashlib.sha512(b"host %d" % self.draws).digest()[:count]


class World:
    """A device with an authority and an application."""

    def __init__(self, weak: bool = False, device: str = "front-1") -> None:
        self.device = device
        self.weak = weak
        self.now = 0
        self.boot, self.generation, self.booted_at = 0, 3, 0
        self.last_hellos: dict[bytes, bytes] = {}
        self.driver = Driver()
        self.trace: list[tuple[str, str]] = []
        self.chance = Chance()
        self.chance.weak = weak
        self.sealings: set[tuple[str, str]] = set()
        self.wire: list[Message] = []
        self.tape: list[Message] = []
        self.genuine: set[Message] = set()
        self.commands: dict[int, Command] = {}
        self.obeyed: list[int] = []
        self.events: dict[int, str] = {}
        self.heard: list[tuple[str, int]] = []
        self.number = 0
        self.crash = ""
        self.allow_quarantine = False
        self.mark = DeviceMark()
        self.kept_mark = DeviceMark()
        self.apps: dict[str, App] = {}
        for appid in ("authority", "acme"):
            key = hashlib.sha256(f"{device} {appid}".encode()).digest()
            app = App(Address(TYPE, device, appid), key)
            self.apps[appid] = app
            self.start_app(app)
        self.restart_device()

    # -- time

    def instant(self) -> Instant:
        return Instant(UNIX + self.now // 1000, self.now / 1000)

    def uptime(self) -> int:
        return self.now - self.booted_at

    def pass_time(self, ms: int) -> None:
        self.now += ms
        self.drive(f"tick {self.uptime()}")
        for app in self.apps.values():
            with self.host_side():
                for wake in app.session.tick(self.instant()):
                    self.send("cmd", wake.command, wake.data)

    # -- the device

    def restart_device(self) -> None:
        self.boot += 1
        self.last_hellos = {}
        self.booted_at = self.now
        apps = " ".join(
            f"{a}:{app.key.hex()}:{int(a == 'authority')}" for a, app in self.apps.items()
        )
        nonce_key = hashlib.sha256(self.device.encode()).hexdigest()
        self.drive(
            f"boot {TYPE} {self.device} {self.boot} {self.generation} {POLICY.hex()} {nonce_key} "
            f"{self.boot} {int(self.weak)} {apps}"
        )
        self.reconnect()

    def reconnect(self) -> None:
        self.drive(f"begin {self.uptime()}")
        self.drive(f"tick {self.uptime()}")

    def raise_generation(self) -> None:
        self.generation += 1
        self.drive(f"gen {self.generation}")

    def drive(self, line: str) -> list[str]:
        """One operation of the device; what it sends is on the wire, what it obeys is judged."""
        answer = self.driver.do(line)
        self.trace.append((line, answer))
        words = [] if answer == "-" else answer.split()
        for word in words:
            kind, _, rest = word.partition(":")
            if kind == "s":
                name, text = rest.split(":")
                data = bytes.fromhex(text)
                self.send("evt", name, data)
                if name == "hello":
                    self.last_hellos[cose.parse_mac0(data).kid] = hashlib.sha256(data).digest()
            elif kind == "j":
                self.judge_command(cbor2.loads(bytes.fromhex(rest)))
            elif kind == "a":
                key, nonce = rest.split(":")
                self.note_sealing(key, nonce)
        return words

    def state(self) -> list[str]:
        return self.driver.do("state").split()

    def device_session(self, appid: str) -> tuple[bool, str]:
        (word,) = (word for word in self.state() if word.startswith(appid + ":"))
        _, stands, sid, *_ = word.split(":")
        return stands == "1", sid

    def judge_command(self, body: dict[str, Any]) -> None:
        number = body["n"]
        sent = self.commands.get(number)
        assert sent is not None, "executed a command that was not sent"
        assert body == {"n": number, "a": sent.app}, "another body"
        assert number not in self.obeyed, "obeyed twice"
        assert self.now <= sent.deadline_ms, "obeyed after it had expired"
        assert self.device_session(sent.app)[1] == sent.sid, "obeyed in another session"
        before = [self.commands[n].order for n in self.obeyed if self.commands[n].sid == sent.sid]
        assert all(order < sent.order for order in before), "obeyed out of order"
        self.obeyed.append(number)

    def publish(self, appid: str) -> None:
        self.number += 1
        if self.device_session(appid)[0]:
            self.events[self.number] = appid
            body = cbor2.dumps({"n": self.number}, canonical=True).hex()
            self.drive(f"seal {appid} temperature {body}")

    def work(self) -> None:
        self.drive("work")

    # -- the applications

    def host_side(self) -> Any:
        return _HostSide(self)

    def start_app(self, app: App) -> None:
        def persist(fact: Proof | Quarantined) -> None:
            crash, self.crash = self.crash, ""
            if crash == "before":
                raise Crash
            if isinstance(fact, Proof):
                app.proven = fact
                self.kept_mark = copy.copy(self.mark)
            else:
                self.kept_mark.quarantine = fact.reason
            if crash == "after":
                raise Crash

        given = {} if app.proven is None else {"proven": app.proven}
        app.session = Session(app.address, app.key, POLICY, self.mark, persist, **given)

    def restart_apps(self) -> None:
        """The process of all applications, as `warden serve` is one: what the disk kept is all
        that is left."""
        self.mark = copy.copy(self.kept_mark)
        for app in self.apps.values():
            self.start_app(app)
            with self.host_side():
                wake = app.session.request_hello(self.instant())
            self.send("cmd", "wake", wake.data)

    def command(self, appid: str, ttl_s: int) -> bool:
        known = self.apps[appid].session
        if not known.is_up:
            return False
        self.number += 1
        with self.host_side():
            data = known.seal(
                "set", self.number, {"n": self.number, "a": appid}, ttl_s, self.instant()
            )
        sid = cose.parse_encrypt0(data).sid.hex()
        deadline = self.now + ttl_s * 1000
        self.commands[self.number] = Command(appid, sid, deadline, self.number)
        self.send("cmd", "set", data)
        return True

    def host_state(self) -> list[object]:
        found: list[object] = [copy.copy(self.mark)]
        for app in self.apps.values():
            s = app.session
            current = s._current and s._current.channel
            found += [
                s.is_up,
                current
                and (
                    current.sid,
                    current.next_down,
                    current._window.highest,
                    current._window._seen,
                ),
                s.previous and s.previous.sid,
                list(s._candidates),
                s._proven,
                copy.copy(s._wake),
            ]
        return found

    def carry_out(self, app: App, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Send):
                self.send("cmd", outcome.command, outcome.data)
            elif isinstance(outcome, Received) and outcome.event == "temperature":
                number = outcome.body["n"]
                assert self.events.get(number) == app.address.appid, "an event that was not sent"
                self.note_accepted(outcome.event, number)
            elif isinstance(outcome, Received):
                assert outcome.event == "reply", outcome
                if outcome.body["ok"]:
                    assert outcome.id in self.obeyed, "a reply to what was not obeyed"
                self.note_accepted(outcome.event, outcome.id)
            if isinstance(outcome, Quarantined):
                assert self.allow_quarantine, "an honest device in quarantine"

    def note_accepted(self, event: str, number: int) -> None:
        assert (event, number) not in self.heard, "accepted twice"
        self.heard.append((event, number))

    def note_sealing(self, key: str, nonce: str) -> None:
        assert (key, nonce) not in self.sealings, "a key and nonce pair came twice"
        self.sealings.add((key, nonce))

    # -- the network

    def send(self, way: str, name: str, data: bytes) -> None:
        message = Message(way, name, data, self.device)
        self.wire.append(message)
        self.tape.append(message)
        self.genuine.add(message)

    def deliver(self, message: Message, work: bool = True) -> None:
        """Deliver to all subscribers of that topic.

        A message that neither side sent must change nothing at all.
        """
        forged = message not in self.genuine or message.device != self.device
        before = (self.state(), self.host_state())
        stale = not forged and message.way == "cmd" and self.is_stale(message)
        if message.way == "cmd":
            line = f"take {message.name} {message.data.hex() or '-'} {self.uptime()} {int(work)}"
            words = self.drive(line)
            if forged and not self.is_duplicate(message):
                assert [word[:2] for word in words] == ["r:"], words
        else:
            for app in self.apps.values():
                outcomes: list[Outcome] = []
                try:
                    with self.host_side():
                        outcomes = app.session.receive(message.name, message.data, self.instant())
                except Crash:
                    self.restart_apps()
                    break
                self.carry_out(app, outcomes)
                if forged:
                    assert all(isinstance(outcome, Refused) for outcome in outcomes), outcomes
        if forged:
            assert (self.state(), self.host_state()) == before, "a forgery moved something"
        elif stale:
            assert self.state() == before[0], "what was said in another session moved something"

    def is_stale(self, message: Message) -> bool:
        """A welcome to another hello than each application's last one of this boot, or a message
        of a session that the device doesn't hold."""
        if message.name == "wake":
            return False
        parts = cbor2.loads(message.data)
        if message.name == "welcome":
            return cbor2.loads(parts[2])[1] not in self.last_hellos.values()
        sid = cbor2.loads(parts[0])[10].hex()
        return sid not in [self.device_session(appid)[1] for appid in self.apps]

    def is_duplicate(self, message: Message) -> bool:
        """The very bytes of a command to this device, on whatever topic: a duplicate is known by
        them alone, and obeys nothing."""
        return message.device == self.device and any(
            (known.way, known.data) == ("cmd", message.data) for known in self.tape
        )

    def deliver_all(self) -> None:
        for _ in range(100 + 10 * len(self.wire)):
            if not self.wire:
                return
            self.deliver(self.wire.pop(0))
        raise AssertionError("the two ends talk without end")

    # -- a network that is fair from now on

    def is_session_up(self) -> bool:
        for appid, app in self.apps.items():
            stands, sid = self.device_session(appid)
            current = app.session._current
            if (
                not stands
                or not app.session.is_up
                or current is None
                or current.channel.sid.hex() != sid
            ):
                return False
        return True

    def recover(self) -> None:
        """Within bounded time both sessions stand, and a command of each gets through."""
        self.crash = ""
        end = self.now + RECOVERY_MS
        self.deliver_all()
        while not self.is_session_up():
            assert self.now < end, f"no session after {RECOVERY_MS} ms"
            self.pass_time(500)
            self.deliver_all()
        for appid in self.apps:
            assert self.command(appid, 60)
            number = self.number
            self.deliver_all()
            # The hand-shake may have a second session under way, which replaces this one at once.
            if number not in self.obeyed:
                assert self.command(appid, 60)
                self.deliver_all()
            assert self.number in self.obeyed or number in self.obeyed, "the command got lost"


class _HostSide:
    """While the applications' code runs: their chance is ours, and their sealings are noted."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __enter__(self) -> None:
        world = self.world

        class Recording:
            def __init__(self, key: bytes, tag_length: int = 16) -> None:
                self._aead = _AESCCM(key, tag_length)
                self._name = hashlib.sha256(key).digest()[:12].hex()

            def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
                world.note_sealing(self._name, nonce.hex())
                return self._aead.encrypt(nonce, data, aad)

            def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
                return self._aead.decrypt(nonce, data, aad)

        self._before = session.secrets, cose.AESCCM
        session.secrets, cose.AESCCM = world.chance, Recording  # type: ignore[assignment, misc]

    def __exit__(self, *_: object) -> None:
        session.secrets, cose.AESCCM = self._before  # type: ignore[misc]


_AESCCM = cose.AESCCM
