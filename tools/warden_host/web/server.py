"""What each server of pages has in common: its socket, its limits, and the names it answers to."""

import socket

import uvicorn

from warden_host.web.connection import WAIT_S, LimitedConnection, LimitedWebSocket
from warden_host.web.guard import App

_BACKLOG = 128
_MAX_HEAD = 16384  # bytes of a request's line and headers
MAX_MESSAGE = 16384  # bytes of a WebSocket's message that are taken
_PING_S = 20.0


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def host_names(host: str, port: int, tls: bool) -> frozenset[str]:
    """Return the Host headers that requests may have. host, port: where the server listens."""
    names = {host, "localhost", "127.0.0.1"} if not tls else {host}
    shown = {f"[{one}]" if ":" in one else one for one in names}
    default = 443 if tls else 80
    hosts = {f"{one}:{port}" for one in shown} | (shown if port == default else set())
    return frozenset(one.lower() for one in hosts)


def settings(
    app: App, certificate: str | None = None, key: str | None = None, *, sockets: bool = False
) -> uvicorn.Config:
    """Return uvicorn's settings. certificate, key: files, for TLS. sockets: take WebSockets."""
    return uvicorn.Config(
        app,
        access_log=False,
        log_level="error",  # strangers cause warnings: they would fill the log
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MAX_HEAD,
        timeout_keep_alive=int(WAIT_S),
        timeout_graceful_shutdown=3,  # acceptor.py ends connections before
        http=LimitedConnection,
        ws=LimitedWebSocket if sockets else "none",
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,  # a small message would open into a large one
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PING_S,
        lifespan="off",
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
