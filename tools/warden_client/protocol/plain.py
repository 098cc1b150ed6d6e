"""Plain mode at the application's end: JSON under TLS, the application proves itself by its uid.

It keeps out strangers with a broker account, and no one else: the broker's owner reads every uid.
"""

import re
from typing import Any

from warden_client import jsontext
from warden_client.errors import HostError
from warden_client.names import OTP_EVENTS, Address
from warden_client.protocol.results import Outcome, Received, Refused, Send
from warden_client.protocol.strictcbor import DEVICE_LIMITS, LIMITS, MAX_BYTES, is_u32

_MAX_MARKS = 2 * LIMITS.items  # an item has two at most
MAX_UID_REQUEST = 512  # a request takes about 150 bytes
UID_REQUEST = "server_uid_request"
_REQ = re.compile(r"[0-9a-f]{32}\Z")
_CODE = "bad-body"


class PlainPeer:
    """One plain device as one application sees it."""

    def __init__(self, address: Address, uid: bytes) -> None:
        self.address = address
        self._uid = uid

    def receive(self, event: str, data: bytes) -> list[Outcome]:
        """Return the outcomes of a device's event under fmt/json; its mistakes raise nothing."""
        try:
            limit = MAX_UID_REQUEST if event == UID_REQUEST else MAX_BYTES
            message = jsontext.parse_object(data, limit, _CODE, marks=_MAX_MARKS)
            if message.get("event") != event or message.get("deviceId") != self.address.device:
                raise HostError(_CODE, "event or deviceId is not the topic's")
            if event == UID_REQUEST:
                return self._on_uid_request(message)
            if event == "reply":
                return [_reply(message)]
            if event in OTP_EVENTS:
                return [Received(event, 0, message)]
            body = message.get("body")
            if not isinstance(body, dict):
                raise HostError(_CODE, "an event without a body")
            number = message.get("n", 0)
            if not is_u32(number):
                raise HostError(_CODE, "n is no event's number")
            # The broker's PUBACK is the device's answer: a missing one can't be asked for.
            return [Received(event, number, body, 0 if number else None)]
        except HostError as error:
            return [Refused(event, error.code, error.text)]

    def command(
        self, command: str, number: int, args: dict[str, Any], *, uid: bytes | None = None
    ) -> bytes:
        """Return a command's bytes; raises bad-argument, cbor-limit.

        uid: another application's, for a test of forgeries.
        """
        return jsontext.encode(
            {
                "cmd": command,
                "appid": self.address.appid,
                "uid": (self._uid if uid is None else uid).hex(),
                "id": number,
                "args": args,
            },
            DEVICE_LIMITS.depth,
        )

    def _on_uid_request(self, message: dict[str, Any]) -> list[Outcome]:
        req = message.get("req")
        if not isinstance(req, str) or not _REQ.match(req):
            raise HostError(_CODE, "req is not 32 hex digits")
        if message.get("appid") != self.address.appid:
            return []  # another application's to answer
        answer = {
            "cmd": "server_uid_response",
            "appid": self.address.appid,
            "uid": self._uid.hex(),
            "req": req,
        }
        return [Send("server_uid_response", jsontext.encode(answer))]


def _reply(message: dict[str, Any]) -> Received:
    number, good = message.get("id"), message.get("ok")
    if not is_u32(number) or not isinstance(good, bool):
        raise HostError(_CODE, "a reply without id or ok")
    body = {key: value for key, value in message.items() if key not in ("event", "deviceId", "id")}
    return Received("reply", number, body)
