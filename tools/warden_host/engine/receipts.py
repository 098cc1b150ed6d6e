"""Keep the events of devices in fleet.db, and acknowledge those of an outbox once they are there.

Such an event has a number for good, which rises, and names the event before it in the outbox. An
application takes it only if it has that one, so that nothing is lost in between, and only once.
"""

from collections.abc import Callable

from warden_client.protocol.results import Received, Send
from warden_client.protocol.session import Instant

from warden_host import jsontext
from warden_host.engine.device_state import DeviceState
from warden_host.errors import HostError
from warden_host.names import Address
from warden_host.store.store import Store


class Receipts:
    """The events that wait for fleet.db. send, clock: the engine's."""

    def __init__(
        self,
        store: Store,
        send: Callable[[Address, Send], None],
        clock: Callable[[], Instant],
    ) -> None:
        self._store = store
        self._send = send
        self._clock = clock
        # By (device, application): those to acknowledge, and the number before the unwritten ones.
        self._due: dict[tuple[str, str], DeviceState] = {}
        self._before: dict[tuple[str, str], int] = {}

    def keep(self, state: DeviceState, appid: str, received: Received) -> bool:
        """Keep an event for the next write(); return whether it is new.

        Raises: database-damaged.
        """
        number = received.id if received.previous is not None else 0
        if number and not self._admit(state, appid, number, received.previous or 0):
            return False
        uid = state.uid(appid) if number else b""
        body = jsontext.dump(received.body)
        try:
            device, event = state.device.device, received.event
            if self._store.add_event(device, appid, event, body, number, uid):
                self._before.clear()  # what fleet.db has is not withdrawn with what follows
        except HostError:
            self._withdraw()
            raise
        return True

    def write(self) -> None:
        """Commit the events that wait, and acknowledge them. Raises database-damaged."""
        try:
            self._store.write_events()
        except HostError:
            self._withdraw()
            raise
        due, self._due = self._due, {}
        self._before.clear()
        for (device, appid), state in due.items():
            session = state.sessions.get(appid)
            if session is not None and session.is_up:
                data = session.seal("ack", state.numbers[appid], {}, None, self._clock())
                self._send(Address(state.device.type, device, appid), Send("ack", data))

    def _admit(self, state: DeviceState, appid: str, number: int, previous: int) -> bool:
        """Return whether an event is new, and none before it is missing; prepare its answer."""
        last = state.numbers.get(appid, 0)
        pair = state.device.device, appid
        if previous > last:
            return False  # the device sends all of them again
        self._due[pair] = state
        if number <= last:
            return False  # our answer got lost
        self._before.setdefault(pair, last)
        state.numbers[appid] = number
        return True

    def _withdraw(self) -> None:
        """Forget the events that fleet.db could not take: their devices send them again."""
        for pair, number in self._before.items():
            self._due[pair].numbers[pair[1]] = number
        self._due.clear()
        self._before.clear()
