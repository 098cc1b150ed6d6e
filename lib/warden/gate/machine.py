"""The gate's states: a one-time password, typed on the keypad, opens it. Sans-IO; see docs/otp.md.

Keys, messages and the time come in. `out` holds what is to be sent, `incidents` what is to be
reported, lines() what the display shows. Times are milliseconds of an uptime: no change of the
clock moves them.

The vault's counters `otp_used` and `otp_good` hold the attempts so far, and how many they were at
the last success. An attempt is committed and read back before its code is sent or compared, so a
power cut gives none back. The time of a lock-out is not stored, as a board without a clock chip
cannot measure it across a restart: each start waits the whole of it.
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

_IDLE = const(0)  # no code is asked for; a key press asks the authority for one
_ASKED = const(1)  # the authority makes a code
_ENTER = const(2)  # keys are accepted
_CHECK = const(3)  # the authority verifies what was typed
_LOCKED = const(4)  # after too many wrong attempts
_RIGHT = const(5)  # the authority accepted the code; the next tick() opens the gate

_ANSWER_MS = const(30000)
_ASKS = const(4)  # how often the same request is sent
_ASK_MS = const(60000)  # between two different requests
_LONGEST_S = const(86400)
_STAR = const(0x2A)
_HASH = const(0x23)
_TRUTH = const(("false", "true"))


class Otp:
    """The state machine of one start's gate.

    gate_policy: the policy's map (policy/otp.py). codes: verifies on the device; None where the
    authority does. by: what opened the gate, "" while it is shut.
    """

    def __init__(
        self, gate_policy: "dict[str, Any]", vault: "Vault", codes: "Codes | None", now_ms: int
    ) -> None:
        self._policy = gate_policy
        self._vault = vault
        self._codes = codes
        self._entry = bytearray()
        self._req = b""
        self._note = ""  # shown until the next key
        self._until = 0  # end of the state
        self._ends = 0  # end of the code's validity
        self._idle = 0  # end of an entry without further keys
        self._asks = 0  # times the request was sent
        self._next = 0  # earliest time of the next request
        self._linked = False
        self._wants = True  # a person is there: ask the authority for a code
        self.by = ""
        self.out: "list[tuple[str, dict[str, str]]]" = []
        self.incidents: "list[tuple[str, int]]" = []
        self._state = _IDLE
        self._reset()
        if self.failures() >= gate_policy["retries"]:
            self._lock(now_ms)

    def failures(self) -> int:
        """Return how many attempts failed since the last success."""
        return self._vault.counter("otp_used") - self._vault.counter("otp_good")

    # -- time ---------------------------------------------------------------------------------

    def tick(self, now_ms: int, linked: bool) -> None:
        """Handle what is due. linked: the authority can be reached."""
        self._linked = linked
        if self.by:
            return
        state = self._state
        if state == _RIGHT:
            self._open("otp")
            return
        if self._entry and now_ms >= self._idle:
            self._clear()
        if state == _IDLE:
            if self._wants and linked and now_ms >= self._next:
                self._req = binascii.hexlify(random_bytes(16))
                self._asks, self._next = 0, now_ms + _ASK_MS
                self._ask(now_ms)
        elif state == _ENTER:
            if self._req and now_ms >= self._ends:
                self._reset("Code expired")
        elif now_ms >= self._until:
            if state == _ASKED and self._asks < _ASKS:
                if linked:
                    self._ask(now_ms)  # the same request: the authority makes no second code
            elif state == _CHECK:
                self._spent(now_ms, "No answer")  # the attempt counts; the code may be valid
            else:
                self._reset()

    def _ask(self, now_ms: int) -> None:
        self._asks += 1
        self._state, self._until = _ASKED, now_ms + _ANSWER_MS
        self.out.append(("server_otp_request", {"req": self._req.decode()}))

    def _reset(self, note: str = "") -> None:
        """Wait for a code of the device's own, or for a key that asks the authority for one."""
        self._clear()
        self._req = b""
        self._note = note
        self._state = _IDLE if self._codes is None else _ENTER

    def _clear(self) -> None:
        wipe(self._entry)
        self._entry = bytearray()

    def _lock(self, now_ms: int) -> None:
        """Lock the gate for a time that doubles with every `retries` wrong attempts."""
        failures, policy = self.failures(), self._policy
        level = min(failures // policy["retries"], 16)
        self._reset()
        self._wants = False
        self._state = _LOCKED
        self._until = now_ms + 1000 * min(policy["lock_s"] << (level - 1), _LONGEST_S)
        self.incidents.append(("otp-locked", failures))

    # -- keys ---------------------------------------------------------------------------------

    def on_key(self, key: int, now_ms: int, unix_time: "int | None" = None) -> None:
        """Handle a key. key: ASCII code, of 0 to 9, * or #. unix_time: None if none is proven."""
        if self._state == _IDLE:
            self._wants = True
        if self._state != _ENTER or self.by:
            return
        self._note = ""
        self._idle = now_ms + 1000 * self._policy["idle_s"]
        if key == _STAR:
            self._clear()
        elif key == _HASH:
            self._submit(now_ms, unix_time)
        elif 0x30 <= key <= 0x39 and len(self._entry) <= self._policy["digits"]:
            self._entry.append(key)  # one too many is kept, for # to refuse

    def _submit(self, now_ms: int, unix_time: "int | None") -> None:
        codes = self._codes
        # What cannot be right or cannot be verified costs no attempt: it tells nothing of a code.
        if len(self._entry) != self._policy["digits"]:
            self._note = "%d digits, then #" % self._policy["digits"]
        elif codes is None and not self._linked:
            self._note = "No connection"
        elif codes is not None and codes.needs_time(unix_time):
            self._note = "No time yet"
        elif codes is None and now_ms >= self._ends:
            self._reset("Code expired")
        else:
            # First the attempt, in flash and read back; then the code.
            self._vault.advance("otp_used")
            if codes is not None:
                found = codes.verify(self._entry, unix_time)
                if found is None:
                    self._wrong(now_ms)
                else:
                    self._open("offline", {found[0]: found[1]})
                    if found[0] == "otp_duress":
                        self.incidents.append(("duress", 1))
            else:
                self._state, self._until = _CHECK, now_ms + _ANSWER_MS
                typed = {"req": self._req.decode(), "otp": str(self._entry, "utf-8")}
                self.out.append(("device_otp_response", typed))
        self._clear()

    def _wrong(self, now_ms: int, late: bool = False) -> None:
        self.incidents.append(("otp-wrong", 1))
        self._spent(now_ms, "" if late else "Wrong code")

    def _spent(self, now_ms: int, note: str) -> None:
        """Go on after a failed attempt. note: "" where its code is no longer valid."""
        if self.failures() % self._policy["retries"] == 0:
            self._lock(now_ms)
        elif note:
            self._state, self._note = _ENTER, note
        else:
            self._reset("Code expired")

    # -- messages -----------------------------------------------------------------------------

    def on_response(self, fields: "dict[str, Any]", now_ms: int) -> None:
        """Accept keys: the authority made a code. PeerError bad-body, unexpected."""
        self._expect(fields, _ASKED)
        validity = fields.get("validity")
        if type(validity) is not int or not 0 < validity <= 3600:
            raise PeerError("bad-body")
        self._state, self._note = _ENTER, ""
        self._ends = now_ms + 1000 * min(validity, self._policy["validity_s"])
        self._wants = False

    def on_validate(self, fields: "dict[str, Any]", now_ms: int) -> None:
        """Have the next tick() open the gate, or count a wrong code.

        The commit needs more of the C stack than is left where a message is received.
        PeerError bad-body, unexpected.
        """
        self._expect(fields, _CHECK)
        valid, late = fields.get("isOTPValid"), fields.get("isTimeOut")
        if valid not in _TRUTH or late not in _TRUTH or (valid == late == "true"):
            raise PeerError("bad-body")
        if valid == "true":
            self._state = _RIGHT
        else:
            self._wrong(now_ms, late == "true")

    def _expect(self, fields: "dict[str, Any]", state: int) -> None:
        """Check that an answer is for the outstanding request, in the state that waits for it."""
        req, time = fields.get("req"), fields.get("time")
        if not isinstance(req, str) or not isinstance(time, str):
            raise PeerError("bad-body")
        if len(time) != 19 or time.encode().strip(b"0123456789-: "):
            raise PeerError("bad-body")
        if self._state != state or not equal(req.encode(), self._req):
            raise PeerError("unexpected")

    # -- open ---------------------------------------------------------------------------------

    def unlock(self) -> None:
        """Open the gate by the operator's command. PeerError not-allowed by the policy."""
        if not self._policy["unlock"]:
            raise PeerError("not-allowed")
        self._open("unlock")

    def _open(self, by: str, rises: "dict[str, int] | None" = None) -> None:
        """Open the gate. rises: new values of the vault's counters, by the same commit."""
        rises = rises or {}
        if self.failures():
            rises["otp_good"] = self._vault.counter("otp_used")
        if rises:
            self._vault.commit({}, rises)
        self._reset()
        self.by = by

    # -- the display --------------------------------------------------------------------------

    def lines(self, now_ms: int) -> "tuple[str, str]":
        """Return the display's two lines, 16 characters at most; what was typed is masked."""
        state, note = self._state, self._note
        if self.by:
            return "Open", ""
        if state == _LOCKED:
            return "Locked", _wait(self._until - now_ms)
        if state == _ASKED:
            return "Code is made", "wait"
        if state in (_CHECK, _RIGHT):
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
    """Return a time in minutes: a display is not written each second."""
    return "%d min" % ((max(0, ms) + 59999) // 60000)
