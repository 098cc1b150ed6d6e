"""Take in what open devices publish: plain events that nothing proves, and which say so.

They never reach the engine, which has no device of the name: no session, no command, no incident
and no row of fleet.db comes of them.
"""

import time
from collections.abc import Callable

from warden_host import jsontext, names
from warden_host.engine.events import FleetEvent
from warden_host.engine.throttle import Throttle
from warden_host.errors import HostError
from warden_host.names import AUTHORITY, OTP_EVENTS, PLAIN, TOPIC_LIMIT

Sink = Callable[[str, bytes, memoryview, bool], None]
MAX_EVENT = 1024  # bytes
_DEPTH, _MARKS = 4, 256
_TOLD_AGAIN_S = 0.5  # what was dropped
_RATE, _BURST = 5.0, 20.0  # events of one device, and a second
_RESERVED = frozenset(
    ("hello", "ready", "reply", "incident", "offline", "update", "gate", *OTP_EVENTS)
)


def before(
    sink: Sink,
    room_of: Callable[[bytes], str],
    announce: Callable[[FleetEvent], None],
    clock: Callable[[], float] = time.monotonic,
) -> Sink:
    """Return a sink that takes what comes from open rooms, and passes all else on.

    room_of: the open room whose device a topic names, or "".
    A refused event is told within the rate of its device, as any other: anyone can send them.
    """
    throttle = Throttle(_RATE, _BURST)
    due = float("-inf")

    def receive(appid: str, topic: bytes, payload: memoryview, retain: bool) -> None:
        room = room_of(topic) if len(topic) <= TOPIC_LIMIT else ""
        if not room:
            return sink(appid, topic, payload, retain)
        if appid != AUTHORITY:  # each application of the type receives it
            return None
        nonlocal due
        now = clock()
        # A look at all of them, of thousands maybe, is not for each message of a stranger.
        found: list[tuple[str, int]] = []
        if now >= due:
            found, due = throttle.due(now), now + _TOLD_AGAIN_S
        for device, missed in found:
            text = f"{missed} events dropped: it sends more than {_RATE:g} a second"
            announce(FleetEvent("notice", device, code="flooded", text=text))
        device = topic.split(b"/")[4].decode()
        if throttle.admit(device, now):
            try:
                announce(_event(room, topic, payload, retain))
            except HostError as error:
                announce(FleetEvent("notice", device, code=error.code, text=error.text))
        return None

    return receive


def _event(room: str, topic: bytes, payload: memoryview, retain: bool) -> FleetEvent:
    """Return the event. Raises mqtt-too-large, bad-topic, retained, bad-body."""
    if len(payload) > MAX_EVENT:
        raise HostError("mqtt-too-large", f"an open device sends {MAX_EVENT} bytes at most")
    found = names.parse_topic(topic.decode(errors="replace"))
    if found.way != "evt" or found.fmt != PLAIN or found.verb in _RESERVED:
        raise HostError("bad-topic", "an open device sends plain events of its own")
    if retain:
        raise HostError("retained", "none is kept")
    body = jsontext.parse_object(bytes(payload), MAX_EVENT, "bad-body", _DEPTH, _MARKS)
    return FleetEvent("open", found.device, name=found.verb, body=body, room=room)
