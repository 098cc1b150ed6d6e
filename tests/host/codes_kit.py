"""A stage whose device asks for codes: the handler, what went to the post, and the device's end
written from the protocol."""

import json
import os

from engine_kit import K, Stage, pairs
from host_kit import DEVICE, PeerDevice
from warden_host.otp.handler import OtpHandler
from warden_host.otp.notify.delivery import Message
from warden_host.otp.otp import Codes
from warden_host.otp.settings import Limits
from warden_host.protocol import policy
from warden_host.store.otp import Delivered
from warden_host.store.store import Device

PEPPER = bytes(range(32))


def gated(mode: str = "sealed", apps=("authority", "lights"), **gate) -> Device:
    record = policy.record(mode=mode, otp=policy.otp(**gate))
    return Device(DEVICE, "relay", "UNIX", mode, record, pairs=pairs(*apps))


class OtpStage(Stage):
    def __init__(self, folder, device: Device | None = None, limits: Limits | None = None) -> None:
        super().__init__(folder, device or gated())
        self.limits = limits or Limits()
        self.posted: list[Message] = []
        self.take_seat()

    def take_seat(self) -> None:
        codes = Codes(self.store, PEPPER, self.limits)
        self.handler = OtpHandler(self.engine, codes, self.posted.append)

    def restart(self) -> None:
        """Another process with the same database: what was in memory is gone."""
        self.take_seat()

    def report(self, error: str = "") -> None:
        last = self.posted[-1]
        self.handler.delivered(Delivered(last.device, last.way, last.purpose, 1.0, error))

    @property
    def code(self) -> str:
        """The newest code that went out."""
        return next(each.code for each in reversed(self.posted) if each.purpose == "code")

    def all_said(self) -> str:
        """Everything that is kept, shown or sent, but for what goes to the owner."""
        rows = "\n".join(self.store._db.iterdump())
        shown = "\n".join(str(news.record()) for news in self.news)
        return rows + shown + "".join(repr(data) for _, _, data in self.sent)


class Gate:
    """The device's end of the four messages."""

    def __init__(self, stage: OtpStage, sealed: bool = True) -> None:
        self.stage = stage
        self.sealed = sealed
        record = stage.engine.state(DEVICE).device.policy
        self.peer = PeerDevice(K["authority"], policy.policy_hash(record))
        self.req = ""
        if sealed:
            stage.handshake(self.peer)

    def send_event(self, event: str, body: dict) -> list[dict]:
        """What came back."""
        before = len(self.stage.sent)
        if self.sealed:
            self.stage.receive(event, self.peer.seal(event, [0, None, body]))
        else:
            data = json.dumps(body).encode()
            for appid in ("authority", "lights"):
                self.stage.receive(event, data, appid, fmt="json")
        return [self.opened(*sent) for sent in self.stage.sent[before:]]

    def opened(self, appid, where, data) -> dict:
        if self.sealed:
            assert appid == "authority"
            _, (number, expiry, body) = self.peer.open(where.verb, data)
            assert number == 0
            assert expiry is not None
        else:
            body = json.loads(data)
        return {"topic": where.verb, "by": appid} | body

    def ask(self, req: str | None = None) -> list[dict]:
        self.req = os.urandom(16).hex() if req is None else req
        body = {"event": "server_otp_request", "deviceId": DEVICE, "req": self.req}
        return self.send_event("server_otp_request", body)

    def type(self, otp: str, req: str | None = None) -> list[dict]:
        body = {"event": "device_otp_response", "deviceId": DEVICE}
        return self.send_event(
            "device_otp_response", body | {"req": self.req if req is None else req, "otp": otp}
        )

    def verdict(self, otp: str, req: str | None = None) -> tuple[str, str]:
        [answer] = self.type(otp, req)
        assert answer["topic"] == answer["cmd"] == "server_otp_validate"
        return answer["isOTPValid"], answer["isTimeOut"]


RIGHT, WRONG, LATE = ("true", "false"), ("false", "false"), ("false", "true")


def other(code: str) -> str:
    """A code that is wrong by one digit."""
    return str((int(code[0]) + 1) % 10) + code[1:]
