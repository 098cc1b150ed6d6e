"""The OpenAPI 3.1 document of the API: what /api/v1/openapi.json shows."""

from typing import Any

from warden_host.web.api.problems import HTTP, STATUS

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_TEXTS = {
    400: "The request has another form.",
    401: "There is no token, or it is none, has ended or was revoked.",
    403: "The token does not allow it, or not for web pages of this origin.",
    404: "There is nothing of this name for the token.",
    405: "There is no such method here.",
    409: "It can't be now: the device has no session, or is in quarantine.",
    411: "The request has a body without a length.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    421: "The console has another host name.",
    426: "This takes a WebSocket.",
    429: "The token, or the address, asks too often.",
    500: "An error in the console.",
    502: "The authority refused it for another reason; `code` says which.",
    503: "`warden serve` is about to start or to end.",
    504: "The device, or the authority, gave no answer in time.",
}
_ALWAYS = (400, 401, 403, 405, 421, 429, 500, 502, 503, 504)


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(needed: dict[str, Any], more: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = needed | (more or {})
    return {"type": "object", "properties": properties, "required": list(needed)}


def _responses(schema: str, *further: int) -> dict[str, Any]:
    """Return an operation's responses: what it gives, and every refusal."""
    refused = {
        str(status): {
            "description": _TEXTS[status],
            "content": {_PROBLEM: {"schema": _ref("Problem")}},
        }
        for status in sorted({*_ALWAYS, *further})
    }
    found = {"description": "Done.", "content": {_JSON: {"schema": _ref(schema)}}}
    return {"200": found} | refused


_NAME = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}$"}
_VERB = {"type": "string", "pattern": "^[a-z0-9_]{1,32}$"}
_TIME = {"type": "number", "description": "Unix seconds."}
_FREE = {"type": "object", "additionalProperties": True}
_COMMANDS = {"type": "array", "items": {"type": "string"}}
_STATE = {
    "type": "string",
    "description": "online, asleep, stopped, away, offline, quarantined, revoked or open.",
}
_DEVICE = {"name": "device", "in": "path", "required": True, "schema": _NAME}

_BEFORE = {
    "name": "before",
    "in": "query",
    "schema": {"type": "integer", "minimum": 0, "maximum": 1 << 53},
}


def _limit(most: int) -> dict[str, Any]:
    return {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": most},
    }


_SCHEMAS: dict[str, Any] = {
    "Problem": _object(
        {
            "type": {"type": "string"},
            "status": {"type": "integer"},
            "title": {"type": "string", "description": "What happened, and why."},
            "detail": {"type": "string", "description": "What to do."},
            "code": {
                "type": "string",
                "description": "Of docs/errors.md, or of HTTP: "
                + ", ".join(sorted({*STATUS, *HTTP.values()})),
            },
        }
    ),
    "Token": _object(
        {
            "application": {"type": "string"},
            "id": {"type": "string"},
            "expires": {"type": "integer", "description": "Unix seconds."},
            "scope": {"type": "array", "items": {"type": "string"}},
        }
    ),
    "DeviceRow": _object(
        {
            "device": {"type": "string"},
            "type": {"type": "string"},
            "state": _STATE,
            "commands": _COMMANDS,
        }
    ),
    "DevicePage": _object(
        {
            "devices": {"type": "array", "items": _ref("DeviceRow")},
            "next": {
                "type": ["string", "null"],
                "description": "Give it as `after` for the next page.",
            },
        }
    ),
    "Device": _object(
        {
            "device": {"type": "string"},
            "type": {"type": "string"},
            "state": _STATE,
            "mode": {"type": "string", "description": "sealed or plain."},
            "session": {
                "type": "boolean",
                "description": "Whether the application's session with it is up.",
            },
            "last_seen": {"type": ["number", "null"], "description": "Unix seconds."},
            "commands": _COMMANDS,
        }
    ),
    "Publisher": _object(
        {
            "kind": {"type": "string", "description": "device, application, or open."},
            "id": {"type": "string"},
            "type": {"type": "string", "description": "Of a device; of an open one, its room."},
            "proven": {
                "type": "boolean",
                "description": "Whether the message opened under keys that the publisher alone "
                "has beside the authority. No client can set it.",
            },
        }
    ),
    "Event": _object(
        {
            "device": {"type": "string"},
            "name": {"type": "string"},
            "body": _FREE,
            "time": _TIME,
            "publisher": _ref("Publisher"),
        }
    ),
    "Events": _object(
        {
            "events": {"type": "array", "items": _ref("Event")},
            "next": {
                "type": ["integer", "null"],
                "description": "Give it as `before` for the page of older ones.",
            },
        }
    ),
    "Command": _object(
        {"command": _VERB},
        {
            "args": _FREE | {"description": "Arguments: 8 levels at most."},
            "ttl": {
                "type": "integer",
                "minimum": 1,
                "maximum": 2592000,
                "description": "Seconds until the device refuses it. Default: 30.",
            },
            "timeout": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 30,
                "description": "Seconds to wait for the answer. Default: 10.",
            },
        },
    )
    | {"additionalProperties": False},
    "Answer": _object(
        {
            "device": {"type": "string"},
            "command": {"type": "string"},
            "number": {"type": "integer"},
            "ok": {"type": "boolean", "description": "Whether the device obeyed."},
        },
        {
            "result": {"description": "What the device's handler returned."},
            "error": {"type": "string", "description": "Why the device refused: a code."},
        },
    ),
}


def _operation(name: str, summary: str, schema: str, *further: int, **more: Any) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": _responses(schema, *further),
    } | more


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Warden",
        "version": "1",
        "description": "Devices of a fleet for web applications. A command is sealed from the "
        "authority to the device. Events come by a WebSocket at /events: docs/api.md.",
        "license": {"name": "MIT", "identifier": "MIT"},
    },
    "servers": [{"url": "/api/v1"}],
    "security": [{"token": []}],
    "paths": {
        "/token": {"get": _operation("get_token", "What the token is, and allows.", "Token")},
        "/devices": {
            "get": _operation(
                "list_devices",
                "The devices that the token is for, by ID.",
                "DevicePage",
                parameters=[{"name": "after", "in": "query", "schema": _NAME}, _limit(200)],
            )
        },
        "/devices/{device}": {
            "get": _operation("get_device", "One device.", "Device", 404, parameters=[_DEVICE])
        },
        "/devices/{device}/events": {
            "get": _operation(
                "list_events",
                "The newest events that the application has of a device, oldest first.",
                "Events",
                404,
                parameters=[_DEVICE, _BEFORE, _limit(200)],
            )
        },
        "/devices/{device}/commands": {
            "post": _operation(
                "send_command",
                "Send a command, and wait for the device's answer.",
                "Answer",
                *(404, 409, 411, 413, 415),
                parameters=[_DEVICE],
                requestBody={
                    "required": True,
                    "content": {_JSON: {"schema": _ref("Command")}},
                },
            )
        },
    },
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "Of an application, as the fleet's owner makes it.",
            }
        },
    },
}
