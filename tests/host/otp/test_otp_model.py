"""Test the gate's device and authority together, driven by hypothesis.

The network loses, duplicates, reorders and replays; clocks jump and power is cut.
OTP_EXAMPLES in the environment sets the number of examples; `make test` runs few.
"""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codes_kit import gated
from host_kit import DEVICE
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from warden_client.protocol.session import Instant
from warden_host.otp import otp as host_otp
from warden_host.otp.settings import Limits
from warden_host.protocol import policy
from warden_host.store.store import Store

REPO = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(REPO / "tests" / name) for name in ("cpython", "unit/kit")] + [
    str(REPO / "lib")
]

import warden.gate.machine  # noqa: E402  (the path must be set first)
from board_model import DictStore, PowerCut, RootKey, counted_random  # noqa: E402
from warden.errors import PeerError  # noqa: E402
from warden.gate.codes import Codes  # noqa: E402
from warden.gate.codes import code as hotp_code  # noqa: E402
from warden.vault import Vault  # noqa: E402
from warden.wire import cbor  # noqa: E402

EXAMPLES = int(os.environ.get("OTP_EXAMPLES", "40"))
PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TIME = "2026-11-22 03:00:00"
RETRIES = 3
GATE = policy.otp(retries=RETRIES, duress=True, validity_s=120)
LIMITS = Limits(requests_device=10**6, requests_owner=10**6, attempts_device=10**6)
TOTALS = {"opened": 0, "attempts": 0, "cuts": 0, "lock-outs": 0, "replays": 0}

picks = st.integers(0, 999)


@dataclass
class Message:
    """On the wire. up: to the authority. number: in the order of its sender."""

    up: bool
    event: str
    fields: dict[str, Any]
    number: int
    seen: bool = False


class World:
    def __init__(self, folder: str) -> None:
        warden.gate.machine.random_bytes = counted_random()  # type: ignore[attr-defined]
        self.store = Store(Path(folder) / "fleet.db")
        self.store._db.execute("PRAGMA synchronous=OFF")  # no power fails at the authority here
        self.store.add_device(gated())
        self.flash = DictStore()
        vault = Vault(self.flash, RootKey())
        vault.create()
        vault.commit({"identity": b"x"})
        self.steady, self.unix = 1000.0, 1_800_000_000
        self.wire: list[Message] = []
        self.numbers = [0, 0]
        self.last_down = 0
        self.sealed = True
        self.linked = True
        # code → (request, when it ends by the steady clock, whether it was used to open)
        self.codes: dict[str, list[Any]] = {}
        self.typed: list[str] = []  # since the start of the device
        self.emitted = self.free = self.good = 0
        self.restart_authority()
        self.boot()

    # The two ends

    def restart_authority(self) -> None:
        self.authority = host_otp.Codes(self.store, bytes(32), LIMITS)

    def boot(self) -> None:
        self.flash.budget = None
        self.vault = Vault(self.flash, RootKey())
        self.vault.open()
        self.now = 0
        self.typed = []
        self.otp = warden.gate.machine.Otp(GATE, self.vault, None, 0)
        self.check_device()

    def cut(self, budget: int) -> None:
        """The power goes at the so-manieth write of what comes."""
        self.flash.budget = budget

    def pulled(self) -> None:
        TOTALS["cuts"] += 1
        self.boot()

    def check_device(self) -> None:
        """What must hold whatever happened."""
        used, good = self.vault.counter("otp_used"), self.vault.counter("otp_good")
        assert used >= self.emitted, "an attempt was shown that was not counted"
        if good > self.good:
            self.good, self.free = good, 0
        if self.otp.lines(self.now)[0] == "Locked":
            if self.free:
                TOTALS["lock-outs"] += 1
            self.free = 0
        assert self.free <= RETRIES, "more attempts than the policy allows without a lock-out"
        for code in self.otp.incidents:
            assert code[0] in ("otp-wrong", "otp-locked")

    def collect(self) -> None:
        out, self.otp.out = self.otp.out, []
        for event, fields in out:
            if event == "device_otp_response":
                self.emitted += 1
                self.free += 1
                TOTALS["attempts"] += 1
            self.numbers[0] += 1
            self.wire.append(Message(True, event, dict(fields), self.numbers[0]))
        self.check_device()

    def go(self, ms: int) -> None:
        self.now += ms
        self.steady += ms / 1000
        self.unix += ms // 1000
        self.tick()

    def tick(self) -> None:
        self.otp.tick(self.now, self.linked)
        self.collect()

    def type(self, keys: bytes) -> None:
        try:
            for key in keys:
                before = self.otp.by
                self.otp.on_key(key, self.now)
                assert self.otp.by == before, "a key alone opened it"
            self.collect()
        except PowerCut:
            self.pulled()

    # The network

    def deliver(self, message: Message) -> None:
        if self.sealed:
            # What the session under it does: each message once, and down none that is older than
            # the last.
            if message.seen or (not message.up and message.number <= self.last_down):
                return
        elif message.seen:
            TOTALS["replays"] += 1
        message.seen = True
        if message.up:
            self.receive_at_authority(message)
        else:
            self.last_down = message.number
            self.receive_at_device(message)

    def receive_at_authority(self, message: Message) -> None:
        now = Instant(self.unix, self.steady)
        req = message.fields["req"]
        if message.event == "server_otp_request":
            issued = self.authority.ask(DEVICE, GATE, req, ("owner",), now)
            if isinstance(issued, host_otp.Denied):
                return
            for code in (issued.code, issued.duress):
                if code is not None:
                    self.codes[code] = [req, self.steady + issued.validity, False]
            self.down("server_otp_response", req=req, validity=issued.validity, time=TIME)
            return
        verify = self.authority.verify if self.sealed else self.authority.verify_plain
        verdict = verify(DEVICE, GATE, req, message.fields["otp"], now)
        if verdict.valid:
            code = self.codes.get(message.fields["otp"])
            assert code is not None, "a code that was never made"
            assert code[0] == req, "a code of another request"
        valid, late = str(verdict.valid).lower(), str(verdict.late).lower()
        self.down("server_otp_validate", req=req, isOTPValid=valid, isTimeOut=late, time=TIME)

    def down(self, event: str, **fields: Any) -> None:
        self.numbers[1] += 1
        self.wire.append(Message(False, event, fields, self.numbers[1]))

    def receive_at_device(self, message: Message) -> None:
        receive = (
            self.otp.on_response
            if message.event == "server_otp_response"
            else self.otp.on_validate
        )
        before = self.otp.by
        try:
            receive(message.fields, self.now)
            self.otp.tick(self.now, self.linked)
        except PeerError as error:
            assert error.code == "unexpected"
            assert self.otp.by == before
        except PowerCut:
            self.pulled()
        if self.otp.by and not before:
            self.opened(message)
        self.collect()

    def opened(self, message: Message) -> None:
        """It opened: by a code that the authority made for this very request, that a person typed
        for it, and never before. A verdict names its request and not its attempt: that on a right
        code which was given up waiting for may open while the next one is on its way."""
        TOTALS["opened"] += 1
        assert message.event == "server_otp_validate"
        assert message.fields["isOTPValid"] == "true"
        right = [self.codes[code] for code in self.typed if code in self.codes]
        right = [code for code in right if code[0] == message.fields["req"]]
        assert right, "it opened by a code that was not given, or not typed"
        assert not right[-1][2], "one code opened twice"
        right[-1][2] = True

    # A person at the keypad

    def enter(self, which: str, keys: bytes = b"") -> None:
        """The code that the owner got last, the one for duress, one of before, or a wrong one."""
        codes = list(self.codes)
        if which == "wrong" or not codes:
            number = 0
            while f"{number:06}" in self.codes:
                number += 1
            code = f"{number:06}"
        else:
            code = {"right": codes[-2], "duress": codes[-1], "old": codes[0]}[which]
        if self.otp.lines(self.now)[0].startswith("Code?"):
            self.typed.append(code)
        self.type(keys + b"*" + code.encode() + b"#")

    def recover(self) -> None:
        """With a network that works, the right code opens the gate."""
        self.flash.budget, self.linked = None, True
        self.wire.clear()
        self.tick()
        for _ in range(40):
            if self.otp.by:
                return
            first = self.otp.lines(self.now)[0]
            if first == "Locked":
                self.go(60_000)
            elif first.startswith("Code?"):
                self.enter("right")
            else:
                self.type(b"1")
                self.go(31_000 if first in ("Code is made", "Checking") else 1_000)
            for message in list(self.wire):
                self.deliver(message)
            while self.wire:
                self.deliver(self.wire.pop(0))
        raise AssertionError(f"the right code does not open it: {self.otp.lines(self.now)}")


class Gates(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.world = World(self._folder.name)

    def teardown(self) -> None:
        self.world.recover()
        self.world.store.close()
        self._folder.cleanup()

    shut = precondition(lambda self: not self.world.otp.by)

    @precondition(lambda self: self.world.numbers == [0, 0])
    @rule()
    def in_plain_mode(self) -> None:
        self.world.sealed = False

    @rule(ms=st.sampled_from((500, 5_000, 30_000, 31_000, 121_000, 3_600_000)))
    def time(self, ms: int) -> None:
        self.world.go(ms)

    @rule()
    def deliver_all(self) -> None:
        for message in list(self.world.wire):
            if not message.seen:
                self.world.deliver(message)

    @precondition(lambda self: self.world.wire)
    @rule(pick=picks)
    def deliver_one(self, pick: int) -> None:
        """In any order, and in plain mode again and again."""
        self.world.deliver(self.world.wire[pick % len(self.world.wire)])

    @precondition(lambda self: self.world.wire)
    @rule(pick=picks)
    def lose_one(self, pick: int) -> None:
        del self.world.wire[pick % len(self.world.wire)]

    @rule(which=st.sampled_from(("right", "right", "duress", "wrong", "wrong", "old")))
    def somebody_types(self, which: str) -> None:
        self.world.enter(which)

    @precondition(lambda self: not self.world.otp.by)
    @rule(tries=st.integers(1, 4))
    def somebody_guesses(self, tries: int) -> None:
        """On a network that works."""
        self.world.linked = True
        for _ in range(tries):
            self.world.type(b"1")
            self.world.go(1000)
            self.deliver_all()
            self.world.enter("wrong")
            self.deliver_all()

    @precondition(lambda self: self.world.otp.by)
    @rule()
    def another_day(self) -> None:
        self.world.boot()

    @rule(keys=st.binary(max_size=8))
    def somebody_plays(self, keys: bytes) -> None:
        self.world.type(keys.replace(b"#", b"*"))

    @rule(which=st.sampled_from(("right", "wrong")), budget=st.integers(0, 6))
    def the_power_goes_while_somebody_types(self, which: str, budget: int) -> None:
        self.world.cut(budget)
        self.world.enter(which)
        self.deliver_all()
        self.world.flash.budget = None

    @rule()
    def the_power_goes(self) -> None:
        self.world.pulled()

    @rule(linked=st.booleans())
    def the_link(self, linked: bool) -> None:
        self.world.linked = linked
        self.world.tick()

    @rule()
    def the_authority_restarts(self) -> None:
        self.world.restart_authority()

    @rule(by=st.sampled_from((-86400 * 400, -3600, -1, 3600, 86400 * 4000)))
    def the_authoritys_clock_jumps(self, by: int) -> None:
        self.world.unix = max(1, self.world.unix + by)


def test_both_ends() -> None:
    run_state_machine_as_test(Gates, settings=PROFILE)
    print(TOTALS)
    # The machine did what it is for.
    assert all(TOTALS.values()), TOTALS


# HOTP, judged by the device alone

SECRETS = {"otp_step": bytes(range(20)), "otp_duress": bytes(range(20, 40))}
NEAR, FAR = 10, 100  # RFC 4226 §7.4: how far ahead one code may lie, and two in a row
OFFLINE = policy.otp(source="hotp", retries=RETRIES, duress=True)
PAST = {"opened": 0, "resynchronised": 0, "wrong": 0, "cuts": 0}
offsets = st.one_of(st.integers(-3, NEAR + 2), st.integers(NEAR, FAR + 3))


class Door(RuleBasedStateMachine):
    """An authenticator whose button is pressed far from the door, and a plug that is pulled."""

    def __init__(self) -> None:
        super().__init__()
        self.flash = DictStore()
        vault = Vault(self.flash, RootKey())
        vault.create()
        vault.commit({"otp": cbor.encode([SECRETS["otp_step"], 6, 0, SECRETS["otp_duress"]])})
        self.next = dict.fromkeys(SECRETS, 0)
        self.attempts = self.free = 0
        self.boot()

    def boot(self) -> None:
        self.flash.budget = None
        self.vault = Vault(self.flash, RootKey())
        self.vault.open()
        assert self.vault.counter("otp_used") >= self.attempts, "an attempt was gained"
        for name, least in self.next.items():
            assert self.vault.counter(name) >= least, "a counter that opened is not used up"
            self.next[name] = self.vault.counter(name)
        self.last: tuple[str, int] | None = None  # what the attempt before held
        self.now = 0
        self.otp = warden.gate.machine.Otp(OFFLINE, self.vault, Codes(self.vault), 0)
        self.look()

    def look(self) -> None:
        if self.otp.lines(self.now)[0] == "Locked":
            self.free = 0
        assert self.free < RETRIES, "more wrong codes than the policy allows"

    def attempt(self, name: str, offset: int, budget: int | None) -> None:
        counter = max(0, self.next[name] + offset)
        typed = hotp_code(SECRETS[name], counter, 6)
        ahead = counter - self.next[name]
        row = self.last == (name, counter - 1)
        right = 0 <= ahead < NEAR or (0 <= ahead < FAR and row and ahead > NEAR)
        locked = self.otp.lines(self.now)[0] == "Locked"
        self.flash.budget = budget
        try:
            for key in typed + b"#":
                self.otp.on_key(key, self.now)
        except PowerCut:
            PAST["cuts"] += 1
            self.boot()
            return
        self.flash.budget = None
        if locked:
            assert not self.otp.by
            return
        self.attempts += 1
        assert self.vault.counter("otp_used") >= self.attempts
        assert bool(self.otp.by) == right, (ahead, row)
        self.last = name, counter
        if right:
            PAST["opened"] += 1
            PAST["resynchronised"] += ahead >= NEAR
            assert self.vault.counter(name) == counter + 1
            self.free = 0
            self.boot()
        else:
            PAST["wrong"] += 1
            self.free += 1
            self.look()

    @rule(name=st.sampled_from(sorted(SECRETS)), offset=offsets)
    def one_code(self, name: str, offset: int) -> None:
        self.attempt(name, offset, None)

    @precondition(lambda self: self.last is not None)
    @rule(budget=st.sampled_from((None, None, None, 0, 1, 2, 3)), by=st.sampled_from((1, 1, 1, 2)))
    def the_next_code(self, budget: int | None, by: int) -> None:
        name, counter = self.last
        self.attempt(name, counter + by - self.next[name], budget)

    @rule(name=st.sampled_from(sorted(SECRETS)), offset=offsets, budget=st.integers(0, 3))
    def the_power_goes(self, name: str, offset: int, budget: int) -> None:
        self.attempt(name, offset, budget)

    @rule()
    def another_start(self) -> None:
        self.boot()

    @rule(ms=st.sampled_from((1000, 61_000, 86_401_000)))
    def time(self, ms: int) -> None:
        self.now += ms
        self.otp.tick(self.now, False)


def test_codes_of_the_devices_own() -> None:
    run_state_machine_as_test(Door, settings=PROFILE)
    print(PAST)
    assert all(PAST.values()), PAST
