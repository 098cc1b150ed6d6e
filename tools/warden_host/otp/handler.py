"""Handle the two OTP messages of a device: send the code to its owner, and verify what is typed.

Only the delivery gets the code: no answer, stored event, fleet event or error holds it.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from warden_client.protocol.results import Received, Refused, Send

from warden_host.engine.device_state import DeviceState
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.names import AUTHORITY, Address
from warden_host.otp import otp
from warden_host.otp.notify.delivery import Message
from warden_host.otp.otp import Codes, Denied, Issue
from warden_host.protocol import policy
from warden_host.store.otp import Code, Contact, Delivered

REQUEST, RESPONSE = "server_otp_request", "device_otp_response"
ANSWER, VALIDATE = "server_otp_response", "server_otp_validate"
CONSOLE = Contact("code", "console", "")
DURESS = "duress"
_VALIDATE_TTL_S = 60
_ALARM_S = 3600  # how long an alarm is worth being sent
_AGAIN_S = 60.0  # between two alarms of a device: it must not fill the queue and the mailbox
_WORDS = {
    "otp-wrong": "a wrong code was typed",
    "otp-late": "a code was typed after its time",
    "otp-replayed": "a code was typed for a request that is over",
    "otp-limit": "more codes were tried than the policy allows",
    DURESS: "the code was typed under duress",
}
Put = Callable[[Message], None]


class OtpHandler:
    """Handle messages on the thread that has the engine. put: queues one for delivery."""

    def __init__(self, engine: Engine, codes: Codes, put: Put) -> None:
        self._engine = engine
        self._codes = codes
        self._put = put
        self._alarmed: dict[str, float] = {}  # device → steady seconds of its last alarm
        engine.event_handlers[REQUEST] = self._on_request
        engine.event_handlers[RESPONSE] = self._on_response
        engine.watchers.add(self._on_event, "incident")

    def _on_request(self, state: DeviceState, appid: str, received: Received) -> None:
        content = self._checked(state, appid, received, {"req"})
        if content is None:
            return
        gate, body = content
        name = state.device.device
        targets = self._targets(name, "code")
        owners = tuple(dict.fromkeys(_owner(each) for each in targets))
        answer = self._codes.ask(name, gate, body["req"], owners, self._engine.clock())
        if isinstance(answer, Denied):
            self._engine.record_refusal(
                state, AUTHORITY, Refused(REQUEST, answer.why, answer.text)
            )
            return
        if answer.code is not None:
            self._send_code(name, answer, targets)
        self._answer(state, ANSWER, body["req"], {"validity": answer.validity}, answer.validity)

    def _on_response(self, state: DeviceState, appid: str, received: Received) -> None:
        content = self._checked(state, appid, received, {"req", "otp"})
        if content is None:
            return
        gate, body = content
        name = state.device.device
        verify = self._codes.verify if state.sealed else self._codes.verify_plain
        verdict = verify(name, gate, body["req"], body["otp"], self._engine.clock())
        if verdict.why and not verdict.valid:
            self._engine.record_refusal(
                state, AUTHORITY, Refused(RESPONSE, verdict.why, _WORDS[verdict.why])
            )
        else:
            self._engine.notify(FleetEvent("otp", name, text="the right code was typed"))
        flags = {"isOTPValid": _flag(verdict.valid), "isTimeOut": _flag(verdict.late)}
        self._answer(state, VALIDATE, body["req"], flags, _VALIDATE_TTL_S)
        if verdict.duress:
            self._engine.store.add_incident(name, "host", DURESS, RESPONSE, 1)
            fleet_event = FleetEvent("incident", name, AUTHORITY, RESPONSE, DURESS, body={"n": 1})
            self._engine.notify(fleet_event)  # _on_event() sends the owner an alarm

    def _on_event(self, fleet_event: FleetEvent) -> None:
        """Send an alarm for a duress code, whether the host or the device found it."""
        if fleet_event.code != DURESS:
            return
        device, now = fleet_event.device, self._engine.clock().steady
        gate = policy.gate(self._engine.state(device).device.policy)
        if gate is None or not gate["duress"]:
            return  # it has no such code: what it says is kept with its incidents
        if now - self._alarmed.get(device, -_AGAIN_S) < _AGAIN_S:
            return
        self._alarmed[device] = now
        for target in self._targets(device, "alarm"):
            self._put(self._message(device, target, _ALARM_S, text=_WORDS[DURESS]))

    def standing(self, device: str) -> tuple[Code, int] | None:
        """Return the record of the device's latest code, and the seconds that it is valid for."""
        return self._codes.standing(device, self._engine.clock())

    def delivered(self, report: Delivered) -> None:
        """Record the result of a delivery."""
        if self._engine.store.find(report.device) is None:
            return  # it was wiped meanwhile
        self._engine.store.record_delivery(report)
        if report.error:
            self._engine.store.add_incident(report.device, "host", "otp-delivery", "", 1)
        text = f"its {report.purpose} did not go out by {report.way}: {report.error}"
        if not report.error:
            text = f"its {report.purpose} went out by {report.way}"
        code = "otp-delivery" if report.error else ""
        self._engine.notify(FleetEvent("otp", report.device, code=code, text=text))

    def _checked(
        self, state: DeviceState, appid: str, received: Received, fields: set[str]
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the gate and the message with exactly these fields; None if refused."""
        event, body = received.event, received.body
        name = state.device.device
        try:
            if appid != AUTHORITY:
                raise HostError("wrong-application", "codes are the authority's alone")
            if state.ending is not None:
                raise HostError("revoked", "it may come to be wiped, and for nothing else")
            gate = policy.gate(state.device.policy)
            if gate is None or gate["source"] != "authority":
                raise HostError("not-applicable", "its policy asks for no code of ours")
            if set(body) != fields | {"event", "deviceId"} or body["event"] != event:
                raise HostError("bad-body", "other fields than this message has")
            if body["deviceId"] != name:
                raise HostError("bad-body", "it names another device")
            for key, form in (("req", otp.REQ), ("otp", otp.TYPED)):
                if key in fields and not (isinstance(body[key], str) and form.match(body[key])):
                    raise HostError("bad-body", f"{key} has another form")
        except HostError as error:
            self._engine.record_refusal(state, AUTHORITY, Refused(event, error.code, error.text))
            return None
        return gate, body

    def _answer(
        self, state: DeviceState, command: str, req: str, fields: dict[str, Any], ttl_s: int
    ) -> None:
        now = self._engine.clock()
        name, type_ = state.device.device, state.device.type
        content = {"cmd": command, "req": req, "time": _date(now.unix)} | fields
        if state.sealed:
            # The seal names the sender, so uid stays out.
            body = content | {"appid": AUTHORITY, "uid": ""}
            data = state.sessions[AUTHORITY].seal(command, 0, body, ttl_s, now)
            self._engine.send(Address(type_, name, AUTHORITY), Send(command, data))
            return
        pair = min(state.device.pairs, key=lambda pair: (pair.appid == AUTHORITY, pair.appid))
        body = content | {"appid": pair.appid, "uid": pair.uid.hex()}
        data = json.dumps(body, separators=(",", ":")).encode()
        self._engine.send(Address(type_, name, pair.appid), Send(command, data))

    def _send_code(self, name: str, issue: Issue, targets: list[Contact]) -> None:
        reached = [each for each in targets if _owner(each) in issue.owners]
        ways = ", ".join(dict.fromkeys(each.way for each in reached))
        self._engine.notify(
            FleetEvent("otp", name, text=f"asks for a code: it goes out by {ways}")
        )
        for target in reached:
            code, duress = issue.code or "", issue.duress or ""
            self._put(self._message(name, target, issue.validity, code=code, duress=duress))

    def _targets(self, device: str, purpose: str) -> list[Contact]:
        """Return the contacts for a code or an alarm; alarms go where codes go by default."""
        known = self._engine.store.contacts(device)
        chosen = [each for each in known if each.purpose == purpose]
        return chosen or [each for each in known if each.purpose == "code"] or [CONSOLE]

    def _message(
        self,
        device: str,
        target: Contact,
        validity: int,
        *,
        code: str = "",
        duress: str = "",
        text: str = "",
    ) -> Message:
        expires = self._engine.clock().steady + validity
        purpose = "alarm" if text else "code"
        to = (target.way, target.address)
        return Message(device, purpose, *to, validity, expires, code, duress, text)


def _owner(contact: Contact) -> str:
    """Return who is spared a flood of codes; the console is no one's mailbox."""
    return "" if contact.way == "console" else f"{contact.way} {contact.address}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _date(unix: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix))
