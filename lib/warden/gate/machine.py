"""The gate's rules: who stands at the device proves it by a one-time password, typed on its keypad. Sans-IO; docs/otp.md has the whole story.

Keys, messages and the time come in; `out` holds what is to be sent, `told` what became an incident, lines() what the display shows. Times are
milliseconds of a clock that only accumulates (clock.Uptime), so the calendar's jumps move nothing here.

The counters `otp_used` and `otp_good` of the vault say how many attempts were begun and how many of them had been when the last one succeeded. An
attempt is committed and read back before its code is sent or compared: cutting the power at any moment gives none back. Nothing counts
how much of a lock-out was served, for a board without a clock chip can't tell; so each start serves the whole of it.
"""

import binascii

from micropython import const

from ..crypto.ct import equal, wipe
from ..crypto.rand import random_bytes
from ..errors import PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault
    from .codes import Codes

_IDLE = const(0)  # no code is under way; the authority is asked when somebody presses a key
_ASKED = const(1)  # the authority was asked for a code
_ENTER = const(2)  # keys are taken
_CHECK = const(3)  # the authority was told what was typed
_LOCKED = const(4)

_ANSWER_MS = const(30000)
_ASKS = const(4)  # how often the same request is sent
_ASK_MS = const(60000)  # between two requests of their own
_LONGEST_S = const(86400)
_STAR = const(0x2A)
_HASH = const(0x23)
_TRUTH = const(("false", "true"))


class Otp:
    """terms: the policy's map (policy/otp.py). codes: judges on the device; None where the authority does.

    by: what opened the gate, "" while it is shut.
    """

    def __init__(
        self, terms: "dict[str, Any]", vault: "Vault", codes: "Codes | None", now_ms: int
    ) -> None:
        self._terms = terms
        self._vault = vault
        self._codes = codes
        self._entry = bytearray()
        self._req = b""
        self._note = ""  # what the display says until the next key
        self._until = 0  # when the state ends
        self._ends = 0  # when the code does
        self._idle = 0  # when an entry that nobody goes on with is forgotten
        self._asks = 0
        self._next = 0  # the earliest next request
        self._linked = False
        self._wants = True
        self.by = ""
        self.out: "list[tuple[str, dict[str, str]]]" = []
        self.told: "list[tuple[str, int]]" = []
        self._state = _IDLE
        self._rest()
        if self._failures() >= terms["retries"]:
            self._lock(now_ms)

    def _failures(self) -> int:
        return self._vault.counter("otp_used") - self._vault.counter("otp_good")

    # -- time ---------------------------------------------------------------------------------

    def tick(self, now_ms: int, linked: bool) -> None:
        """To be called now and then. linked: whether the authority can be spoken to."""
        self._linked = linked
        if self.by:
            return
        state = self._state
        if self._entry and now_ms >= self._idle:
            self._clear()
        if state == _IDLE:
            if self._wants and linked and now_ms >= self._next:
                self._req = binascii.hexlify(random_bytes(16))
                self._asks, self._next = 0, now_ms + _ASK_MS
                self._ask(now_ms)
        elif state == _ENTER:
            if self._req and now_ms >= self._ends:
                self._rest("Code expired")
        elif now_ms >= self._until:
            if state == _ASKED and self._asks < _ASKS:
                if linked:
                    self._ask(now_ms)  # the same one: it is a second code only to the owner's eyes
            elif state == _CHECK:
                self._spent(now_ms, "No answer")  # the attempt is; the code perhaps not
            else:
                self._rest()

    def _ask(self, now_ms: int) -> None:
        self._asks += 1
        self._state, self._until = _ASKED, now_ms + _ANSWER_MS
        self.out.append(("server_otp_request", {"req": self._req.decode()}))

    def _rest(self, note: str = "") -> None:
        """From the beginning. The device's own codes can be typed at any time; the authority is asked again once somebody is there."""
        self._clear()
        self._req = b""
        self._note = note
        self._state = _IDLE if self._codes is None else _ENTER

    def _clear(self) -> None:
        wipe(self._entry)
        self._entry = bytearray()

    def _lock(self, now_ms: int) -> None:
        """Each level is as many wrong attempts as the policy allows, and doubles the delay."""
        failures, terms = self._failures(), self._terms
        level = min(failures // terms["retries"], 16)
        self._rest()
        self._wants = False
        self._state = _LOCKED
        self._until = now_ms + 1000 * min(terms["lock_s"] << (level - 1), _LONGEST_S)
        self.told.append(("otp-locked", failures))

    # -- keys ---------------------------------------------------------------------------------

    def key(self, key: int, now_ms: int, unix_time: "int | None" = None) -> None:
        """key: its ASCII code; others than 0 to 9, * and # do nothing. unix_time: None where no proven one is known."""
        if self._state == _IDLE:
            self._wants = True  # somebody is there
        if self._state != _ENTER or self.by:
            return
        self._note = ""
        self._idle = now_ms + 1000 * self._terms["idle_s"]
        if key == _STAR:
            self._clear()
        elif key == _HASH:
            self._submit(now_ms, unix_time)
        elif 0x30 <= key <= 0x39 and len(self._entry) <= self._terms["digits"]:
            self._entry.append(key)  # one too many is kept, so that # finds it

    def _submit(self, now_ms: int, unix_time: "int | None") -> None:
        codes = self._codes
        # What can't be right, or can't be judged, costs no attempt: it says nothing about any code.
        if len(self._entry) != self._terms["digits"]:
            self._note = "%d digits, then #" % self._terms["digits"]
        elif codes is None and not self._linked:
            self._note = "No connection"
        elif codes is not None and codes.blind(unix_time):
            self._note = "No time yet"
        elif codes is None and now_ms >= self._ends:
            self._rest("Code expired")
        else:
            # First the attempt, on the flash and read back; then the code.
            self._vault.advance("otp_used")
            if codes is not None:
                found = codes.judge(self._entry, unix_time)
                if found is None:
                    self._wrong(now_ms)
                else:
                    self._pass("offline", {found[0]: found[1]})
                    if found[0] == "otp_duress":
                        self.told.append(("duress", 1))
            else:
                self._state, self._until = _CHECK, now_ms + _ANSWER_MS
                typed = {"req": self._req.decode(), "otp": str(self._entry, "utf-8")}
                self.out.append(("device_otp_response", typed))
        self._clear()

    def _wrong(self, now_ms: int, late: bool = False) -> None:
        self.told.append(("otp-wrong", 1))
        self._spent(now_ms, "" if late else "Wrong code")

    def _spent(self, now_ms: int, note: str) -> None:
        """An attempt that opened nothing. note: "" where its code is none any more."""
        if self._failures() % self._terms["retries"] == 0:
            self._lock(now_ms)
        elif note:
            self._state, self._note = _ENTER, note
        else:
            self._rest("Code expired")

    # -- messages -----------------------------------------------------------------------------

    def on_response(self, fields: "dict[str, Any]", now_ms: int) -> None:
        """The authority made a code and gave it to the owner. PeerError bad-body, unexpected."""
        self._expect(fields, _ASKED)
        validity = fields.get("validity")
        if type(validity) is not int or not 0 < validity <= 3600:
            raise PeerError("bad-body")
        self._state, self._note = _ENTER, ""
        self._ends = now_ms + 1000 * min(validity, self._terms["validity_s"])
        self._wants = False

    def on_validate(self, fields: "dict[str, Any]", now_ms: int) -> None:
        """The authority judged what was typed. PeerError bad-body, unexpected."""
        self._expect(fields, _CHECK)
        valid, late = fields.get("isOTPValid"), fields.get("isTimeOut")
        if valid not in _TRUTH or late not in _TRUTH or (valid == late == "true"):
            raise PeerError("bad-body")
        if valid == "true":
            self._pass("otp")
        else:
            self._wrong(now_ms, late == "true")

    def _expect(self, fields: "dict[str, Any]", state: int) -> None:
        """It answers the one request that is outstanding, and that was not answered yet."""
        req, time = fields.get("req"), fields.get("time")
        if not isinstance(req, str) or not isinstance(time, str):
            raise PeerError("bad-body")
        if len(time) != 19 or time.encode().strip(b"0123456789-: "):
            raise PeerError("bad-body")
        if self._state != state or not equal(req.encode(), self._req):
            raise PeerError("unexpected")

    # -- open ---------------------------------------------------------------------------------

    def unlock(self) -> None:
        """The operator's order. PeerError not-allowed where the policy has none of it."""
        if not self._terms["unlock"]:
            raise PeerError("not-allowed")
        self._pass("unlock")

    def _pass(self, by: str, rises: "dict[str, int] | None" = None) -> None:
        """Open, by one commit together with what the code used up."""
        rises = rises or {}
        if self._failures():
            rises["otp_good"] = self._vault.counter("otp_used")
        if rises:
            self._vault.commit({}, rises)
        self._rest()
        self.by = by

    # -- the display --------------------------------------------------------------------------

    def lines(self, now_ms: int) -> "tuple[str, str]":
        """Two lines of at most 16 characters; what was typed is masked."""
        state, note = self._state, self._note
        if self.by:
            return "Open", ""
        if state == _LOCKED:
            return "Locked", _wait(self._until - now_ms)
        if state == _ASKED:
            return "Code is made", "wait"
        if state == _CHECK:
            return "Checking", ""
        if state == _IDLE:
            if self._wants:
                return "Wait", note or ("" if self._linked else "No connection")
            return "Press a key", note
        first = "Code?"
        if self._req:
            first = "Code? " + _wait(self._ends - now_ms)
        return first, note or "*" * len(self._entry)


def _wait(ms: int) -> str:
    """In minutes, so that a display need not be written each second."""
    return "%d min" % ((max(0, ms) + 59999) // 60000)
