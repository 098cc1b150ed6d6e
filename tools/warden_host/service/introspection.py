"""Ask an authorization server whether an application's token is active (RFC 7662).

For tokens that the fleet did not sign, where warden.toml has the table:

    [introspection]
    url = "https://id.example/oauth/introspect"
    client_id = "warden"                 its secret: keys/introspection.secret
    pins = ["SHA-256 of the server's public key, in hex", …]
    ca = "id-ca.crt"                     in the fleet's folder; without it, this machine's CAs
    cache_s = 5                          how long an answer counts, 0 to 60

The secret and the token are sent only once chain, name and pin are right. Whatever is not an
answer that says "active" refuses the token.
"""

import base64
import hashlib
import http.client
import io
import json
import re
import ssl
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from warden_client import secretfile

from warden_host.engine.throttle import Throttle
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet, check_keys, malformed
from warden_host.otp.notify.delivery import LimitedReader
from warden_host.protocol.access_token import MAX_TOKEN, Claims

TABLE = "introspection"
SECRET = "introspection.secret"  # noqa: S105  a file's name
_KEYS = ("url", "client_id", "pins", "ca", "cache_s")
_URL = re.compile(r"https://[A-Za-z0-9.-]{1,253}(:[1-9][0-9]{0,4})?/[\x21-\x7e]*\Z", re.ASCII)
_PIN = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_CACHE_S, _MOST_CACHE_S = 5, 60
_MOST_KEPT = 256  # answers
_ASKED_A_S, _ASKED_AT_ONCE = 10.0, 50.0  # requests: anyone who may send can make tokens up
_STEP_S, _WHOLE_S = 3.0, 6.0
_MAX_ANSWER = 16384


class _Response(http.client.HTTPResponse):
    """Limit a whole answer in bytes and time."""

    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self._held = self.fp  # the connection closes the socket behind the headers otherwise
        until = time.monotonic() + _WHOLE_S
        self.fp = io.BufferedReader(LimitedReader(sock, _STEP_S, until))

    def __exit__(self, *_: object) -> None:
        self.close()
        self._held.close()


class Introspection:
    """The endpoint of a fleet; its answers are kept for some seconds."""

    def __init__(self, fleet: Fleet) -> None:
        """Raises config-malformed, key-missing, key-permissions."""
        table = check_keys(fleet.document.get(TABLE), _KEYS, TABLE)
        self._url, self._client = _text(table, "url"), _text(table, "client_id")
        if not _is_url(self._url):
            raise malformed(f"{TABLE}.url is no https:// address with a path")
        pins = table.get("pins")
        if not isinstance(pins, list) or not pins or not all(map(_is_pin, pins)):
            raise malformed(f"{TABLE}.pins is no list of SHA-256 digests in hex")
        self._pins = frozenset(pins)
        self._ca = fleet.root / _text(table, "ca") if "ca" in table else None
        cache_s = table.get("cache_s", _CACHE_S)
        if type(cache_s) is not int or not 0 <= cache_s <= _MOST_CACHE_S:
            raise malformed(f"{TABLE}.cache_s is not between 0 and {_MOST_CACHE_S}")
        self._cache_s = cache_s
        self._secret: Path = fleet.keys / SECRET
        self._read_secret()  # there, and for its owner alone
        self._asked = Throttle(_ASKED_A_S, _ASKED_AT_ONCE)
        self._kept: OrderedDict[bytes, tuple[float, Claims | None]] = OrderedDict()
        self._lock = threading.Lock()

    def claims(self, token: str) -> Claims:
        """Return what an active token says.

        Raises: token-invalid, token-revoked, token-expired; unreachable where the endpoint gives
        no answer that counts.
        """
        if not 0 < len(token) <= MAX_TOKEN or not (token.isascii() and token.isprintable()):
            raise HostError("token-invalid", "this is no token")
        name = hashlib.sha256(token.encode()).digest()
        with self._lock:
            until, found = self._kept.get(name, (0.0, None))
            known = time.monotonic() < until
            admitted = known or self._asked.admit("", time.monotonic())
        if not admitted:
            raise _unreachable(f"it is asked {_ASKED_A_S:g} times a second at most")
        if not known:
            found = _claims(self._ask(token))
            with self._lock:
                self._kept[name] = (time.monotonic() + self._cache_s, found)
                self._kept.move_to_end(name)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        if found is None:
            raise HostError("token-revoked", "the authorization server says that it is not active")
        if found.end <= time.time():
            raise HostError("token-expired", "the token has ended")
        return found

    def _ask(self, token: str) -> dict[str, Any]:
        try:
            status, data = self._post(urlencode({"token": token}).encode())
        except ssl.SSLError as error:
            raise _unreachable(f"TLS failed: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(type(error).__name__) from None
        if status != 200:
            raise _unreachable(f"it answered {status}")
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or type(answer.get("active")) is not bool:
            raise _unreachable("its answer has another form")
        return answer

    def _post(self, body: bytes) -> tuple[int, bytes]:
        """Send the request once the server's key is a pin; return the status and the answer."""
        parts = urlsplit(self._url)
        context = ssl.create_default_context(cafile=None if self._ca is None else str(self._ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=_STEP_S, context=context
        )
        connection.response_class = _Response
        try:
            connection.connect()
            self._check_pin(connection.sock.getpeercert(binary_form=True))
            secret = self._read_secret()
            proof = f"{quote_plus(self._client)}:{quote_plus(secret)}".encode()  # RFC 6749 §2.3.1
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(
                "POST",
                path,
                body,
                {
                    "Authorization": "Basic " + base64.b64encode(proof).decode(),
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Accept": "application/json",
                },
            )
            with connection.getresponse() as answer:
                data = answer.read(_MAX_ANSWER + 1)
            if len(data) > _MAX_ANSWER:
                raise _unreachable("its answer is too long")
            return answer.status, data
        finally:
            connection.close()

    def _read_secret(self) -> str:
        try:
            return secretfile.read(self._secret).decode("ascii").strip()
        except UnicodeDecodeError:
            raise HostError("key-damaged", f"keys/{SECRET} is no ASCII text") from None

    def _check_pin(self, der: bytes | None) -> None:
        try:
            key = x509.load_der_x509_certificate(der or b"").public_key()
            spki = key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        except (ValueError, UnsupportedAlgorithm):
            raise _unreachable("its key can't be read") from None
        if hashlib.sha256(spki).hexdigest() not in self._pins:
            raise _unreachable("its key is none of the pins")


def _claims(answer: dict[str, Any]) -> Claims | None:
    """Return what an answer says of an active token, else None. Raises token-invalid."""
    if answer["active"] is not True:
        return None
    appid = answer.get("client_id", answer.get("sub"))
    end, scope, id_ = answer.get("exp"), answer.get("scope"), answer.get("jti", "")
    if not all(isinstance(text, str) for text in (appid, scope, id_)) or type(end) is not int:
        raise HostError(
            "token-invalid", "the authorization server names no client, scope or end of the token"
        )
    return Claims(str(appid), id_, end, frozenset(str(scope).split()))


def _is_url(url: str) -> bool:
    """Return whether it is an https address with a path, as http.client can call it."""
    if not _URL.match(url) or "#" in url or "@" in url:
        return False
    parts = urlsplit(url)
    try:
        host = (parts.hostname or "").encode("idna")
        return bool(host) and parts.port != 0  # `port` raises for 65536 and more
    except ValueError:  # an empty label of a name, as in "a..b"
        return False


def _is_pin(value: Any) -> bool:
    return isinstance(value, str) and _PIN.match(value) is not None


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 512:
        raise malformed(f"{TABLE}.{key} is missing or no text")
    return value


def _unreachable(why: str) -> HostError:
    return HostError(
        "unreachable",
        f"the introspection endpoint gives no answer that counts ({why}), so the token is refused",
        f"look at [{TABLE}] in warden.toml, and at that server",
    )
