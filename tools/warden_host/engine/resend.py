"""Send a command again while its reply does not come: byte for byte, as MQTT's QoS 1 would.

A broker that a flood keeps busy drops what it can't hold, replies among it. A device knows a copy
of the last command of its session, and answers with the reply that it stored: nothing is done
twice. A command that another one followed is not sent again: its copy would be a replay.
"""

from collections.abc import Callable, Generator

from warden_client.protocol.session import Instant, Session

from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Wait

AGAIN_S = (3.0, 12.0)  # after the command


def never() -> bool:
    """Send nothing again."""
    return False


def of_sealed(
    session: Session, find_session: Callable[[], Session | None], send: Callable[[], None]
) -> Callable[[], bool]:
    """Return what sends the command that was just sealed again, and tells whether it could.

    session: the one of the command. find_session: returns the one that the device has now.
    """
    channel = session.channel
    last = 0 if channel is None else channel.next_down

    def again() -> bool:
        current = find_session()
        if current is None or not current.is_up or current.channel is not channel:
            return False
        if channel is None or channel.next_down != last:
            return False
        channel.expect_repeat()
        send()
        return True

    return again


def wait_for_reply(
    is_reply: Callable[[FleetEvent], bool],
    clock: Callable[[], Instant],
    again: Callable[[], bool],
    timeout_s: float,
    ttl_s: float,
    device: str,
) -> Generator[Wait, FleetEvent | None, FleetEvent | None]:
    """Wait for a reply, and call again() where it may have got lost; None after timeout_s.

    ttl_s: for how long the device takes the command. device: its ID.
    """
    began = clock().steady
    for pause in AGAIN_S:
        if pause >= min(timeout_s, ttl_s):
            break
        reply = yield Wait(is_reply, began + pause, device)
        if reply is not None or clock().steady >= began + timeout_s:
            return reply
        if not again():
            break
    return (yield Wait(is_reply, began + timeout_s, device))
