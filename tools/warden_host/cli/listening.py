"""An option that names where to listen: HOST:PORT, or a port of loopback."""

import contextlib
import time
from collections.abc import Iterator

from warden_host.cli import screen
from warden_host.errors import HostError
from warden_host.numerals import decimal

_LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def on(address: str, option: str) -> Iterator[tuple[str, int]]:
    """Yield host and port to bind to in the block. option: that gave the address.

    Raises bad-argument for another form, for an address that can't be used, and where the library
    for metrics is missing.
    """
    where = parse(address, option)
    try:
        yield where
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "prometheus_client":
            raise
        raise HostError(
            "bad-argument",
            "the library prometheus-client is missing",
            "pip install warden[bridge]",
        ) from None
    except OSError as error:
        raise HostError("bad-argument", f"can't listen on {address}: {error.strerror}") from None


def parse(address: str, option: str) -> tuple[str, int]:
    """Return host and port. Raises bad-argument for another form."""
    host, _, text = address.rpartition(":")
    port = decimal(text, 65535)
    if port is None or address.startswith(":"):
        raise HostError("bad-argument", f"{option} takes HOST:PORT, such as 127.0.0.1:9810")
    return host.removeprefix("[").removesuffix("]") or _LOOPBACK, port


def show(host: str, port: int, as_json: bool = False) -> None:
    """Print the page's address on standard error, or as a line of a log."""
    url = f"http://{host}:{port}/metrics"
    if as_json:
        screen.print_json({"kind": "notice", "time": time.time(), "text": url, "port": port})
    else:
        screen.err.print(url, soft_wrap=True)
