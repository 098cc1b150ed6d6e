"""Send codes by webhook: an HTTPS POST, signed and dated.

Warden-Signature is `v1=` and the hex digits of HMAC-SHA-256 under the file
keys/otp-webhook.secret, over the timestamp, a dot and the body. The receiver compares in constant
time and refuses a timestamp that is minutes old, so a recorded request can't be replayed later.
Redirects are not followed: the code would go to another server.
"""

import hashlib
import hmac
import http.client
import io
import json
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from warden_client import secretfile

from warden_host.errors import HostError
from warden_host.otp.notify import delivery
from warden_host.otp.notify.delivery import Message, Undelivered
from warden_host.otp.settings import MIN_SECRET, WEBHOOK_SECRET, Webhook

TIMEOUT_S = 10.0


class _Response(http.client.HTTPResponse):
    """Limit a whole answer: a server may send 100 (continue) forever."""

    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        until = time.monotonic() + delivery.WHOLE_S
        self.fp = io.BufferedReader(delivery.LimitedReader(sock, TIMEOUT_S, until))


class WebhookWay:
    """Send messages to the webhook."""

    def __init__(self, settings: Webhook, keys: Path) -> None:
        self._settings = settings
        self._keys = keys

    def send(self, message: Message) -> None:
        try:
            status = self._post(body(message))
        except HostError as error:
            raise Undelivered(error.text) from None
        except ssl.SSLError as error:
            raise Undelivered(f"TLS with the webhook failed ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:
            raise Undelivered(f"the webhook can't be reached ({type(error).__name__})") from None
        if not 200 <= status < 300:
            later = status >= 500 or status in (408, 425, 429)
            raise Undelivered(f"the webhook answered {status}", final=not later)

    def _post(self, data: bytes) -> int:
        parts = urlsplit(self._settings.url)
        secret = secretfile.read(self._keys / WEBHOOK_SECRET).rstrip(b"\n")
        if len(secret) < MIN_SECRET:
            raise HostError("key-damaged", f"{WEBHOOK_SECRET} is shorter than {MIN_SECRET} bytes")
        stamp = str(int(time.time()))
        ca = self._settings.ca
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=context
        )
        connection.response_class = _Response
        try:
            connection.request(
                "POST",
                parts.path or "/",
                data,
                {
                    "Content-Type": "application/json",
                    "Warden-Timestamp": stamp,
                    "Warden-Signature": signature(secret, stamp, data),
                },
            )
            return connection.getresponse().status
        finally:
            connection.close()


def body(message: Message) -> bytes:
    """Return the JSON object: version, purpose, device, to, time, and fields of the purpose."""
    if message.purpose == "alarms":
        return _fleet_body(message)
    content = {
        "v": 1,
        "purpose": message.purpose,
        "device": message.device,
        "to": message.address,
        "time": int(message.time),
    }
    if message.purpose == "alarm":
        content["text"] = message.text
    else:
        content |= {"code": message.code, "validity": message.validity}
        if message.duress:
            content["duress"] = message.duress
    return json.dumps(content, separators=(",", ":")).encode()


def _fleet_body(message: Message) -> bytes:
    """Return the JSON object of the fleet's alarms, as docs/operations.md describes it."""
    content = {
        "v": 1,
        "purpose": message.purpose,
        "fleet": message.device,
        "time": int(message.time),
        "text": message.text.split("\n", 1)[0],
        "alarms": list(message.alarms),
    }
    return json.dumps(content, separators=(",", ":")).encode()


def signature(secret: bytes, stamp: str, data: bytes) -> str:
    """Return the value of Warden-Signature. stamp: unix seconds."""
    return "v1=" + hmac.new(secret, stamp.encode() + b"." + data, hashlib.sha256).hexdigest()
