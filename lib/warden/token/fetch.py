"""Fetch an access token by OAuth 2.0 client credentials (RFC 6749 §4.4) over one pinned link.

    token, seconds = await fetch(link, terms)

The answer is bounded before memory is taken for it: a body of at most 4,096 bytes, by its length
or in chunks, and a token of at most 3,072. Only a whole one counts: MicroPython up to 1.25 parses
JSON that is cut short.

token-refused        the server knows the client not, or gives it no token (RFC 6749 §5.2)
token-unavailable    the server has no answer now: 429 or 5xx
token-malformed      an answer that is no token: its size, its JSON, its type, its life
"""

import binascii
import json

from micropython import const

from ..errors import LinkError, PeerError
from ..net.http import Answers
from ..wire.strict_json import is_refused

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..net.link import Link
    from .terms import Terms

_LIMIT_MS = const(30000)  # for all of it: connection, hand-shake, request and answer
_MAX_BODY = const(4096)
_MAX_TOKEN = const(3072)
_LEAST_S = const(60)  # a shorter life could end before the log-in
_MOST_S = const(30 * 86400)  # of a longer life no more is used
_CHECKED = const((b"content-length", b"transfer-encoding", b"content-encoding"))
_UNRESERVED = const(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


async def fetch(link: "Link", terms: "Terms") -> "tuple[bytes, int]":
    """Return a new token and the seconds for which it is valid from now on.

    link: not connected yet; the caller closes it.
    Raises: PeerError token-refused, token-malformed, https-malformed; LinkError token-unavailable;
      what Link.connect() raises.
    """
    answers = Answers(link, _LIMIT_MS)
    answers.start()
    # The link writes it once the server's pin matched: it holds the secret.
    await link.connect(terms.host, terms.port, _request(terms), _LIMIT_MS)
    status = await answers.status()
    body = await _body(answers)
    if status == b"200":
        return _token(_parse(body))
    if status == b"429" or status[:1] == b"5":
        raise LinkError("token-unavailable", "the token server answers %s" % status.decode())
    raise PeerError("token-refused", "the token server answers %s" % status.decode())


def _request(terms: "Terms") -> bytes:
    place = terms.host if terms.port == 443 else "%s:%d" % (terms.host, terms.port)
    client, secret = _quoted(terms.client), _quoted(terms.secret)
    body = b"grant_type=client_credentials"
    if terms.scope:
        body += b"&scope=" + _quoted(terms.scope)
    proof = b""
    if terms.basic:
        proof = binascii.b2a_base64(client + b":" + secret).rstrip()
        proof = b"Authorization: Basic " + proof + b"\r\n"
    else:
        body += b"&client_id=" + client + b"&client_secret=" + secret
    return b"".join(
        (
            b"POST " + terms.path + b" HTTP/1.1\r\nHost: " + place.encode(),
            b"\r\nAccept: application/json\r\nAccept-Encoding: identity\r\nConnection: close\r\n",
            proof,
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: ",
            str(len(body)).encode() + b"\r\n\r\n" + body,
        )
    )


def _quoted(value: bytes) -> bytes:
    """Return any bytes in the form of application/x-www-form-urlencoded (RFC 6749 appendix B)."""
    out = bytearray()
    for byte in value:
        if byte in _UNRESERVED:
            out.append(byte)
        else:
            out.extend(b"%%%02X" % byte)
    return bytes(out)


async def _body(answers: Answers) -> bytes:
    """Read the headers and the whole body: a counted one, or chunks (RFC 9112 §6 and §7.1)."""
    lengths: "list[bytes]" = []
    chunked: "list[bytes]" = []

    def collect_length(name: bytes, value: bytes) -> None:
        if name == b"content-encoding":
            raise PeerError("https-malformed", "a body in a form that was not asked for")
        (lengths if name == b"content-length" else chunked).append(value)

    await answers.headers(_CHECKED, collect_length)
    # Both, or one of them twice: two readers would see two ends.
    if len(lengths) + len(chunked) != 1:
        raise PeerError("https-malformed", "a body that does not say where it ends")
    if lengths:
        return bytes(await _exactly(answers, _number(lengths[0], 10)))
    if chunked[0].lower() != b"chunked":
        raise PeerError("https-malformed", "a body in a form that was not asked for")
    body = b""
    while True:
        line = await answers.line()
        size = _number(line.partition(b";")[0].strip(b" \t"), 16)
        if not size:
            return body  # what follows is of no use: the connection ends here
        if len(body) + size > _MAX_BODY:
            raise PeerError("token-malformed", "the answer is too large")
        body += await _exactly(answers, size)
        if await answers.line():
            raise PeerError("https-malformed", "a chunk without its end")


def _number(digits: bytes, base: int) -> int:
    """Return a length; PeerError for none, and for one above the limit."""
    good = 0 < len(digits) <= 8
    for byte in digits.lower():  # int() takes signs, blanks and underscores as well
        good = good and byte in b"0123456789abcdef"[:base]
    if not good:
        raise PeerError("https-malformed", "a length that is none")
    number = int(digits, base)
    if number > _MAX_BODY:
        raise PeerError("token-malformed", "the answer is too large")
    return number


async def _exactly(answers: Answers, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while len(view):
        view = view[await answers.body(view) :]
    return data


def _parse(body: bytes) -> "dict[str, Any]":
    """Return the answer's JSON object. PeerError token-malformed."""
    fields = None
    try:
        if not is_refused(body):
            fields = json.loads(body)
    except (ValueError, UnicodeError, OverflowError, MemoryError):
        pass  # as for all that is no object
    if not isinstance(fields, dict):
        raise PeerError("token-malformed", "the answer is no JSON object")
    return fields


def _token(fields: "dict[str, Any]") -> "tuple[bytes, int]":
    token, kind, seconds = (
        fields.get("access_token"),
        fields.get("token_type"),
        fields.get("expires_in"),
    )
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise PeerError("token-malformed", "the token's type is not Bearer")
    if type(seconds) is not int or seconds < _LEAST_S:
        raise PeerError("token-malformed", "the token's life is missing, or below a minute")
    if not isinstance(token, str) or not 0 < len(token) <= _MAX_TOKEN:
        raise PeerError("token-malformed", "there is no token, or it is too long")
    data = token.encode()
    for byte in data:
        if not 32 < byte < 127:
            raise PeerError("token-malformed", "the token is no visible ASCII")
    return data, min(seconds, _MOST_S)
