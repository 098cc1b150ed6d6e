"""Serve browsers. Arguments: socket, host, port, the fleet's name; for TLS certificate and key.

It prints its port when it listens. `warden serve` starts and ends it.
"""

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn

from warden_host.web.app import build
from warden_host.web.connection import WAIT_S, LimitedConnection

_BACKLOG = 128
_MAX_HEAD = 16384  # bytes of a request's line and headers


def main() -> None:
    path, host, port, name, *tls = sys.argv[1:]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
    except OSError as error:
        print(f"the console can't listen on {host}:{port}: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    listener.listen(_BACKLOG)
    bound = listener.getsockname()[1]
    config = uvicorn.Config(
        build(Path(path), name, host, bound, bool(tls)),
        access_log=False,
        log_level="error",  # strangers cause warnings: they would fill the log
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MAX_HEAD,
        timeout_keep_alive=int(WAIT_S),
        timeout_graceful_shutdown=1,
        http=LimitedConnection,
        ws="none",
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    sys.stdout.write(f"{bound}\n")  # in one piece: the reader takes it and closes the pipe
    sys.stdout.flush()
    asyncio.run(uvicorn.Server(config).serve([listener]))


if __name__ == "__main__":
    main()
