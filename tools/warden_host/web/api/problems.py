"""Answer with what went wrong: problem details (RFC 9457), with the codes of docs/errors.md."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from warden_host.errors import HostError
from warden_host.web.authority import Line

# Of a refusal: what is asked for is not there, is not for this token, is wrong, or can't be now.
STATUS = {
    "address-refused": 403,
    "app-unknown": 409,
    "bad-argument": 400,
    "bad-json": 400,
    "bad-name": 400,
    "cbor-limit": 400,
    "clock-jumped": 503,
    "control-malformed": 400,
    "device-unknown": 404,
    "mqtt-too-large": 400,
    "no-session": 409,
    "not-applicable": 409,
    "not-serving": 503,
    "origin-refused": 403,
    "quarantined": 409,
    "rate-limited": 429,
    "reserved-command": 400,
    "revoked": 409,
    "role-missing": 403,
    "timed-out": 504,
    "token-expired": 401,
    "token-invalid": 401,
    "token-missing": 401,
    "token-revoked": 401,
    "token-scope": 403,
}
# What a client of the API can do, in place of a hint for who has the fleet's shell.
_HINTS = {
    "bad-argument": "/api/v1/openapi.json says what a request has",
    "bad-name": "/api/v1/openapi.json says what a request has",
    "control-malformed": "/api/v1/openapi.json says what a request has",
    "device-unknown": "GET /api/v1/devices lists those that the token is for",
}
_AGAIN_S = "2"  # when to ask again
# What HTTP itself refuses, which has no code of the project's.
HTTP = {
    400: "http-malformed",
    403: "origin-refused",
    404: "path-unknown",
    405: "method-refused",
    411: "length-missing",
    413: "body-too-large",
    415: "type-refused",
    421: "host-unknown",
    426: "websocket-wanted",
}


class Problem(JSONResponse):
    media_type = "application/problem+json"


def problem(error: HostError) -> Line:
    """Return what a refusal says: it holds no secret."""
    return {
        "type": f"urn:warden:error:{error.code}",
        "status": STATUS.get(error.code, 502),
        "title": error.text or error.code,
        "detail": _HINTS.get(error.code, error.hint),
        "code": error.code,
    }


def http_problem(status: int, text: str) -> Line:
    """Return what HTTP's own refusal says."""
    code = HTTP.get(status, "http-error")
    return {
        "type": f"urn:warden:http:{code}",
        "status": status,
        "title": text,
        "detail": "",
        "code": code,
    }


def answer(content: Line, headers: dict[str, str] | None = None) -> Response:
    """Return the answer of a problem, with the headers that its status takes."""
    status, headers = content["status"], dict(headers or {})
    if status == 401:
        headers["WWW-Authenticate"] = f'Bearer realm="warden", error="{_bearer(content["code"])}"'
    elif status in (429, 503):
        headers["Retry-After"] = _AGAIN_S
    return Problem(content, status, headers)


async def failed(_: Request, error: Exception) -> Response:
    """Answer an error of any kind."""
    if isinstance(error, HostError):
        return answer(problem(error))
    if isinstance(error, HTTPException):
        kept: Any = error.headers
        return answer(http_problem(error.status_code, error.detail), kept)
    return answer(http_problem(500, "an error in the console: report it"))


def _bearer(code: str) -> str:
    return "invalid_request" if code == "token-missing" else "invalid_token"
