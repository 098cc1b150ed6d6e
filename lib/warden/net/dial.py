"""Open a link: TCP to one of the server's addresses, then a TLS hand-shake that checks the pin.

net/link.py loads this module for each connection and unloads it once the connection is open: with
what it imports it takes 5 KB of a board's heap.
"""

import asyncio
import errno
import socket
import time

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError
from .meter import ALLOWANCE, Meter
from .verifier import Verifier

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .link import Link

# ECDHE only, so that a key stolen later opens no recording; AEAD only. Without a list, a server
# with an RSA certificate gets key exchange without forward secrecy.
_CIPHERS = const(
    (
        "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
        "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
        "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",
        "TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384",
    )
)
# IPPROTO_TCP and TCP_NODELAY, which few ports name. Without it, Nagle's algorithm holds a record
# back until the one before is acknowledged: 40 ms with a peer that delays its ACKs.
_TCP = const(6)
_NODELAY = const(1)
_RETRY_MS = const(250)
_MAX_PLACES = const(4)  # addresses tried of each family
_SLOW_MS = const(2000)  # a look-up that took so long got no answer


async def connect(link: "Link", host: str, port: int, first: bytes, deadline_ms: int) -> None:
    """Do the work of Link.connect()."""
    start = time.ticks_ms()
    try:
        await _attempt(link, host, port, first, start, deadline_ms)
        return
    except PeerError as error:
        verifier = link.verifier
        if verifier is None:
            raise
        if error.code == "certificate-not-yet-valid":
            tentative = verifier.not_before + 1
        elif error.code == "certificate-expired":
            tentative = link.clock.least()
        else:
            raise
        if not link.clock.try_at(tentative):
            raise
    try:
        await _attempt(link, host, port, first, start, deadline_ms)
    except BaseException:  # also when the task is cancelled: an unproven time must not stay
        link.clock.undo()
        raise


async def _attempt(
    link: "Link", host: str, port: int, first: bytes, start: int, deadline_ms: int
) -> None:
    """Try each address of the host until one is the server's.

    Of several failures a refusal is raised, else the last one.
    """
    link.close()
    failure: "PeerError | None" = None
    verifier = link.verifier
    # lwIP gives one address of the family that is asked for.
    families = [socket.AF_INET, socket.AF_INET6]
    if _is_address(host):
        del families[":" not in host]
    while families:
        asked = time.ticks_ms()
        try:
            places = socket.getaddrinfo(host, port, families.pop(0), socket.SOCK_STREAM)
        except OSError as error:
            places = []
            if failure is None:
                text = "no address of the server's name (errno %s)" % error.args[0]
                failure = LinkError("dns-failed", text)
            if time.ticks_diff(time.ticks_ms(), asked) >= _SLOW_MS:
                del families[:]  # no name server answers, and the loop was held meanwhile
        await asyncio.sleep_ms(0)  # a look-up holds the loop
        # ESP-IDF's port lists addresses of IPv6 as None.
        places = [place for place in places if place[-1]][:_MAX_PLACES]
        while places:
            place = places.pop(0)
            try:
                left = _left(start, deadline_ms)
                # Half of what is left: for the hand-shake, or for the next address.
                await _open(link, place, left // 2)
                # The same of one that accepts the connection and then says nothing.
                until = deadline_ms - _left(start, deadline_ms) // 2 if places else deadline_ms
                # A task of its own has the C stack that the hand-shake needs.
                await asyncio.create_task(link.shake(host, first, start, until))
                return
            except PeerError as error:
                if failure is None or isinstance(failure, LinkError):
                    failure, verifier = error, link.verifier
            link.close()
    link.verifier = verifier
    raise failure or LinkError("dns-failed", "the server's name has no address")


async def _open(link: "Link", place: "Any", wait_ms: int) -> None:
    """Open a TCP connection within wait_ms. Raises LinkError unreachable, link-timeout."""
    try:
        link.raw = socket.socket(*place[:3])
        link.raw.setblocking(False)
        try:
            link.raw.setsockopt(_TCP, _NODELAY, 1)
        except (OSError, AttributeError):
            pass  # this port has no such option
        try:
            link.raw.connect(place[-1])
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                raise
        if not await link.wait(True, wait_ms):
            raise LinkError("link-timeout")
        link.raw.send(b"")  # lwIP says "reset" of a refused connection, here as later
    except OSError as error:
        raise _unreachable(error)


async def shake(link: "Link", host: str, first: bytes, start: int, deadline_ms: int) -> None:
    """Do the work of Link.shake()."""
    import tls

    verifier = link.verifier = Verifier(link.trust)
    verifier.now = link.clock.now()
    link.meter = meter = Meter(link.raw)
    try:
        # A fresh context: no session and no callback of an earlier connection is used again.
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        context.set_ciphers(_CIPHERS)
        context.verify_callback = verifier
        link.trust.load(context)
        link.tls = stack = context.wrap_socket(
            meter, server_hostname=host, do_handshake_on_connect=False
        )
        # The stack has no call for the hand-shake alone. It runs in reads until the callback was
        # asked, and ends in the write of `first`, which may hold a password.
        byte = bytearray(1)
        waited = True
        while verifier.pinned != 1:
            meter.left = ALLOWANCE
            if waited or verifier.seen:
                count = stack.readinto(byte)
            else:  # a firmware that asks no callback shows it by a byte that was written
                count = stack.write(first[:1])
                # Or by a server that answered late: the whole hand-shake ran in this call.
                first = first[count or 0 :]
            if verifier.refusal:
                # The stack passes the callback's 1 on, which means one byte.
                raise PeerError(verifier.refusal, "the hand-shake failed")
            if count == 0:
                raise LinkError("link-closed")
            if count and verifier.pinned != 1:
                raise PeerError("pin-mismatch", "this firmware checks no pins")
            # The stack waits for bytes, rarely for room: hence the short turns.
            left = min(_left(start, deadline_ms), _RETRY_MS)
            waited = verifier.pinned == 1 or await link.wait(False, left)
        # In one record: a broker that refuses the log-in then has nothing unread in its socket
        # when it closes it, which would reset the connection and lose its answer.
        view = memoryview(first + link.rest())
        meter.left = ALLOWANCE
        while (count := stack.write(view)) is None:
            # In the hand-shake the stack waits for bytes, after it for room.
            await link.wait(False, min(_left(start, deadline_ms), _RETRY_MS))
            meter.left = ALLOWANCE
        verifier.end()
        await link.write_all(view[count:], start, deadline_ms)
        if verifier.pin_end:
            from .pin_end import watch

            asyncio.create_task(watch(link, verifier))
    except (OSError, ValueError) as error:
        link.close()  # the code that explains the failure needs the buffers' memory
        from . import failures

        try:
            raise failures.of_handshake(
                verifier, error, link.clock.now(), _is_address(host), meter.first, meter.last
            )
        finally:
            unload("warden.net.failures")


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _unreachable(error: Exception) -> LinkError:
    return LinkError("unreachable", "no connection to the server (errno %s)" % error.args[0])


def _left(start: int, deadline_ms: int) -> int:
    left = deadline_ms - time.ticks_diff(time.ticks_ms(), start)
    if left <= 0:
        raise LinkError("link-timeout")
    return left
