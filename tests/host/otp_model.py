"""The device's real gate and the authority's real desk around a network that loses, doubles and
reorders, in simulated time.

`World` does what it is told and holds every message and every verdict against what may be;
test_otp_model.py lets hypothesis tell it. Plain
mode: there nothing but these rules stands between the network and the gate, since in sealed mode
the session drops what came twice.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codes_kit import OtpStage, gated
from host_kit import DEVICE
from warden_client.protocol.session import Instant
from warden_host.otp import otp as host_otp
from warden_host.otp.settings import Limits
from warden_host.protocol import policy

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tests" / path) for path in ("cpython", "unit/kit")] + [
    str(REPO / "lib")
]

from board_model import DictStore, PowerCut, RootKey  # noqa: E402  (the path must be set first)
from warden.errors import PeerError  # noqa: E402
from warden.gate.machine import Otp  # noqa: E402
from warden.vault import Vault  # noqa: E402

LIMITS = Limits(requests_device=8, attempts_device=20)
DOUBLED_S = 5.0
DAY_S = 86400


class Crash(Exception):
    """The authority's process ends here."""


@dataclass
class Issue:
    """A code that went to the owner."""

    code: str
    duress: str
    made: Instant
    life: int  # of which process of the authority
    tried: int = 0
    right: tuple[str, float] | None = None  # what was right, and when it was judged, steady
    opened: bool = False


@dataclass
class World:
    folder: Path
    retries: int = 3
    duress: bool = True
    net: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    tape: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    issues: dict[str, Issue] = field(default_factory=dict)
    newest: str = ""
    typed: list[str] = field(default_factory=list)
    life: int = 0
    sent_attempts: int = 0
    opens: int = 0
    verdicts: int = 0
    now_ms: int = 0
    attempt_ms: int = 0
    linked: bool = True
    worn: bool = False

    def __post_init__(self) -> None:
        self.terms = policy.otp(retries=self.retries, duress=self.duress)
        self.stage = OtpStage(self.folder, gated("plain", ("authority",), **self.terms), LIMITS)
        self._do = self.stage.store._do
        self.flash = DictStore()
        vault = Vault(self.flash, RootKey())
        vault.create()
        vault.commit({"made": b"\x01"})
        self.judged = (("", ""), 0.0)
        self.asked = ""
        self.issue_times: list[int] = []
        self.boot()

    def close(self) -> None:
        self.stage.store.close()

    # The device

    def boot(self) -> None:
        """The power comes: all that is left is on the flash."""
        self.flash.budget = None
        self.vault = Vault(self.flash, RootKey())
        self.vault.open()
        assert self.used() >= self.sent_attempts, "an attempt was given back"
        self.now_ms = self.attempt_ms = 0
        self.device = Otp(self.terms, self.vault, None, 0)
        self.pump()

    def used(self) -> int:
        count: int = self.vault.counter("otp_used")
        return count

    def failures(self) -> int:
        return self.used() - int(self.vault.counter("otp_good"))

    def at_the_device(self, work: Any, budget: int | None) -> None:
        """budget: how many changes of the flash until the power goes."""
        self.flash.budget = budget
        try:
            work()
        except PowerCut:
            self.boot()
        else:
            self.flash.budget = None
            self.pump()

    def pass_time(self, seconds: int) -> None:
        steps = 8
        for _ in range(steps):
            self.now_ms += seconds * 1000 // steps
            self.device.tick(self.now_ms, self.linked)
            self.pump()
        now = self.stage.now
        self.stage.now = Instant(now.unix + seconds, now.steady + seconds)
        self.stage.engine.tick()

    def press(self, keys: str, budget: int | None = None) -> None:
        def work() -> None:
            for key in keys:
                self.device.on_key(ord(key), self.now_ms)
            self.device.tick(self.now_ms, self.linked)

        self.at_the_device(work, budget)

    def pump(self) -> None:
        for event, fields in self.device.out:
            if event == "device_otp_response":
                self._attempted(fields["otp"])
            else:
                self.asked = fields["req"]
            self._carry(("up", event, fields))
        self.device.out = []
        self.device.told = []
        assert not self.device.by or self.device.by in ("otp", "unlock")

    def _attempted(self, typed: str) -> None:
        self.sent_attempts += 1
        assert self.used() >= self.sent_attempts, "sent before it was counted"
        count = self.failures()
        if count > 1 and (count - 1) % self.retries == 0:
            served = self.now_ms - self.attempt_ms
            level = (count - 1) // self.retries
            assert served >= 1000 * min(self.terms["lock_s"] << (level - 1), DAY_S), "no lock-out"
        self.attempt_ms = self.now_ms
        assert len(typed) == self.terms["digits"]

    # The authority

    def restart(self) -> None:
        self.life += 1
        self.stage.store._do = self._do  # type: ignore[method-assign]
        self.stage.engine.watchers.clear()
        self.stage.restart()

    def set_clock(self, by: int) -> None:
        """The date; the steady clock goes on.

        A date ahead lets old requests and attempts be forgotten: that is whose machine it is.
        """
        now = self.stage.now
        self.stage.now = Instant(now.unix + by, now.steady)
        self.issue_times.clear()

    def _crash_after(self, statements: int) -> None:
        left = [statements]

        def counted(statement: str, *values: Any) -> Any:
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            return self._do(statement, *values)

        self.stage.store._do = counted  # type: ignore[method-assign]

    # The network

    def _carry(self, message: tuple[str, str, dict[str, Any]]) -> None:
        self.net.append(message)
        self.tape.append(message)

    def forge(self, req: str, code: str) -> None:
        """The owner of a plain broker can speak for the device: it guesses, or knows what the
        owner was told."""
        self._carry(("up", "device_otp_response", {"req": req, "otp": code}))

    def deliver(
        self, index: int, keep: bool, budget: int | None = None, statements: int | None = None
    ) -> None:
        """statements: how many the authority's database does before its process ends."""
        way, name, fields = self.net[index] if keep else self.net.pop(index)
        if way == "up":
            self._to_the_authority(name, fields, statements)
        else:
            self.at_the_device(lambda: self._to_the_device(name, fields), budget)

    def deliver_all(self) -> None:
        while self.net:
            self.deliver(0, False)

    def _to_the_device(self, name: str, fields: dict[str, Any]) -> None:
        shut = not self.device.by
        try:
            if name == "server_otp_response":
                self.device.on_response(fields, self.now_ms)
            else:
                self.device.on_validate(fields, self.now_ms)
                self.device.tick(self.now_ms, self.linked)
        except PeerError as error:
            assert error.code == "unexpected", error.code
        if shut and self.device.by:
            assert fields["req"] == self.asked, "an answer to another request"
            issue = self.issues[fields["req"]]
            assert not issue.opened, "one code opened twice"
            assert issue.right is not None
            assert self.failures() == 0
            issue.opened = True
            self.opens += 1

    def _to_the_authority(self, name: str, fields: dict[str, Any], statements: int | None) -> None:
        stage = self.stage
        sent, posted = len(stage.sent), len(stage.posted)
        body = {"event": name, "deviceId": DEVICE} | fields
        tries = self._tries(fields["req"])
        tried = stage.store.count_otp(f"tried {DEVICE}", stage.now.unix, DAY_S)
        self.worn = tried >= LIMITS.attempts_device
        if statements is not None:
            self._crash_after(statements)
        try:
            stage.receive(name, json.dumps(body).encode(), fmt="json")
        except Crash:
            # What was answered before it fell stays answered; a code counts only once its row is
            # on the disk.
            self.restart()
        self.stage.store._do = self._do  # type: ignore[method-assign]
        for message in stage.posted[posted:]:
            if message.purpose == "code":
                self._issued(fields["req"], message)
        for appid, where, data in stage.sent[sent:]:
            answer = json.loads(data)
            assert appid == "authority"
            assert answer["req"] == fields["req"]
            if where.verb == "server_otp_validate":
                self._verdict(fields, answer, tries)
            self._carry(("down", where.verb, answer))

    def _tries(self, req: str) -> int:
        kept = self.stage.store.code(DEVICE)
        return kept.tries if kept is not None and kept.req == req else 0

    def _issued(self, req: str, message: Any) -> None:
        assert req not in self.issues, "two codes for one request"
        now = self.stage.now
        self.issues[req] = Issue(message.code, message.duress, now, self.life)
        self.newest = req
        assert bool(message.duress) == self.duress
        self.issue_times.append(now.unix)
        recent = [each for each in self.issue_times if each > now.unix - host_otp.HOUR_S]
        assert len(recent) <= LIMITS.requests_device

    def _verdict(self, said: dict[str, Any], answer: dict[str, Any], tries: int) -> None:
        self.verdicts += 1
        req, typed = said["req"], said["otp"]
        now = self.stage.now
        issue = self.issues.get(req)
        valid = answer["isOTPValid"] == "true"
        late = answer["isTimeOut"] == "true"
        assert not (valid and late)
        last, when = self.judged
        doubled = last == (req, typed) and now.steady - when <= DOUBLED_S
        try:
            self._check_result(issue, req, typed, valid, late, tries)
        finally:
            if not doubled:
                self.judged = ((req, typed), now.steady)
                if issue is not None:
                    issue.tried += 1

    def _check_result(
        self, issue: Issue | None, req: str, typed: str, valid: bool, late: bool, tries: int
    ) -> None:
        now = self.stage.now
        if not valid:
            # A right code is refused for a reason only: cancelled, used, late, or after too many
            # attempts.
            if issue is not None and req == self.newest and issue.right is None:
                if typed in (issue.code, issue.duress or issue.code):
                    assert tries >= self.retries or self.worn or not self._in_time(issue)
                    assert late
            return
        assert issue is not None
        assert req == self.newest, "a newer request cancelled it"
        assert typed in (issue.code, issue.duress or issue.code)
        if issue.right is not None:
            what, when = issue.right
            assert what == typed
            assert now.steady - when <= DOUBLED_S, "used twice"
            return
        assert tries < self.retries and issue.tried < self.retries, "more attempts than allowed"
        assert not self.worn
        assert self._in_time(issue)
        issue.right = (typed, now.steady)

    def _in_time(self, issue: Issue) -> bool:
        """By the steady clock of the process that made it, else by the date."""
        now = self.stage.now
        if issue.life == self.life:
            return now.steady - issue.made.steady < self.terms["validity_s"]
        return bool(0 <= now.unix - issue.made.unix < self.terms["validity_s"])

    def counts(self) -> dict[str, int]:
        """How much happened: a model in which nothing does finds nothing."""
        issued, typed = len(self.issues), self.sent_attempts
        return {"opens": self.opens, "verdicts": self.verdicts, "codes": issued, "attempts": typed}

    # The end

    def recover(self) -> None:
        """With a good network, and after all lock-outs and limits, the right code opens it."""
        self.net.clear()
        self.linked = True
        self.boot()
        for _ in range(3):
            self.pass_time(2 * DAY_S)
            self.net.clear()
        codes = len(self.issues)
        for _ in range(6):
            self.press("5")
            self.pass_time(31)
            self.deliver_all()
            if len(self.issues) > codes:
                break
        assert len(self.issues) > codes, self.device.lines(self.now_ms)
        self.press("*" + self.issues[self.newest].code + "#")
        self.deliver_all()
        assert self.device.by == "otp", self.device.lines(self.now_ms)
