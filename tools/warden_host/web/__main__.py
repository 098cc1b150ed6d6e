"""Serve browsers, by the arguments of main().

It prints its port when it listens. `warden serve` starts and ends it.
"""

import asyncio
import sys
from pathlib import Path

from warden_host.web.acceptor import Server
from warden_host.web.app import build
from warden_host.web.server import listen, settings


def main() -> None:
    """Serve until SIGTERM.

    Arguments: the socket of `warden serve`, where to listen, the host that browsers use, port,
    the fleet's name; for TLS certificate and key.
    """
    path, address, host, port, name, *tls = sys.argv[1:]
    try:
        listener = listen(address, int(port))
    except OSError as error:
        print(f"the console can't listen on {address}:{port}: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    bound = listener.getsockname()[1]
    config = settings(build(Path(path), name, host, bound, bool(tls)), *tls, sockets=True)
    sys.stdout.write(f"{bound}\n")  # in one piece: the reader takes it and closes the pipe
    sys.stdout.flush()
    asyncio.run(Server(config).serve([listener]))


if __name__ == "__main__":
    main()
