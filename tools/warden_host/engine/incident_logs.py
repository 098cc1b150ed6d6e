"""Take the incident logs of devices: complete by their chain, stored, and acknowledged.

A record counts once. What the chain does not allow is an incident of its own: `incident-gap` for
records that the device no longer has and this authority never got, `incident-tampered` for one
that differs from what was here before.
"""

import time
from collections.abc import Callable

from warden_client.protocol.results import Received, Refused, Send
from warden_client.protocol.session import Instant

from warden_host.engine import incident
from warden_host.engine.device_state import DeviceState
from warden_host.engine.events import FleetEvent
from warden_host.engine.incident import Report
from warden_host.errors import HostError
from warden_host.names import AUTHORITY, Address
from warden_host.store.incidents import LogHead
from warden_host.store.store import Store

_MOST = 64  # records of one device between two writes; more are sent again
# So often in one session a device may repeat a record that was acknowledged: an answer may get
# lost. One that goes on has a log that never reached the number that it is told.
_REPEATS = 3


class IncidentLogs:
    """The logs of all devices. The callables are the engine's."""

    def __init__(
        self,
        store: Store,
        send: Callable[[Address, Send], None],
        notify: Callable[[FleetEvent], None],
        refuse: Callable[[DeviceState, str, Refused], None],
        clock: Callable[[], Instant],
    ) -> None:
        self._store = store
        self._send = send
        self._notify = notify
        self._refuse = refuse
        self._clock = clock
        self._due: dict[str, DeviceState] = {}  # to acknowledge with the next write
        self._records: dict[str, list[Report]] = {}  # not written yet
        # Device → the first record that it repeated in its session, and how often.
        self._repeats: dict[str, tuple[int, int]] = {}

    def on_session(self, state: DeviceState) -> None:
        """Tell a device that has a log what of it is here: it does not send that again."""
        head = self._head(state)
        self._repeats.pop(state.device.device, None)
        if head.number:
            self._acknowledge(state, head.number)

    def receive(self, state: DeviceState, appid: str, received: Received) -> None:
        """Handle a report, with or without a number; only the authority is told of incidents."""
        if appid != AUTHORITY:
            return
        report = incident.parse(received.body)
        if report is None:
            self._refuse(state, AUTHORITY, Refused("incident", "bad-body", "no incident"))
        elif not report.number:
            self._count(state, report, report.n)
        elif self._is_new(state, report):
            self._records.setdefault(state.device.device, []).append(report)
            if report.n > report.told:
                self._count(state, report, report.n - report.told)

    def _count(self, state: DeviceState, report: Report, n: int) -> None:
        name = state.device.device
        self._store.add_incident(name, "device", report.code, report.at, n, report.source)
        body: dict[str, int | str] = {"n": n}
        if report.source:
            body["source"] = report.source
        self._notify(FleetEvent("incident", name, AUTHORITY, report.at, report.code, body=body))

    def _is_new(self, state: DeviceState, report: Report) -> bool:
        """Return whether a record is the next one; name what is wrong with the chain."""
        name, head, number = state.device.device, self._head(state), report.number
        if len(self._records.get(name, ())) >= _MOST:
            return False
        self._due[name] = state
        if number <= head.number and head.digest:
            # The newest records are kept, more than a device has.
            if self._digest(name, number) == report.digest:
                if not self._is_played_back(name, number):
                    return False  # a repeat: our answer got lost
                text = f"it goes on repeating record {number} of {head.number}: it is an older log"
                return self._adopt(state, report, text)
            return self._adopt(state, report, f"record {number} is not the one that was here")
        missing = report.oldest - head.number - 1
        if not head.digest or missing > 0:
            # Its log begins behind ours: nothing says what the first of it follows.
            if number != report.oldest:
                return False  # one before it got lost on its way
            if head.digest:
                text = f"{missing} records before {number} are on neither side"
                self._refuse(state, AUTHORITY, Refused("incident", "incident-gap", text))
            state.log = LogHead(number, report.digest, head.missing + max(0, missing))
            return True
        if number != head.number + 1:
            return False
        if not incident.follows(head.digest, report):
            return self._adopt(state, report, f"record {number} does not follow the last one")
        state.log = LogHead(number, report.digest, head.missing)
        return True

    def _is_played_back(self, device: str, number: int) -> bool:
        """Note a repeated record; return whether the device does not heed what it is told."""
        first, count = self._repeats.get(device, (number, 0))
        count += number == first
        self._repeats[device] = first, count
        if count <= _REPEATS:
            return False
        del self._repeats[device]
        return True

    def _adopt(self, state: DeviceState, report: Report, text: str) -> bool:
        """Name a log that was tampered with, and go on from what the device has now."""
        self._refuse(state, AUTHORITY, Refused("incident", "incident-tampered", text))
        head = self._head(state)
        state.log = LogHead(report.number, report.digest, head.missing)
        return True

    def _digest(self, device: str, number: int) -> bytes:
        """Return the chain's hash at a record that was taken, b"" where it is not kept."""
        for report in reversed(self._records.get(device, [])):
            if report.number == number:
                return report.digest
        return self._store.record_digest(device, number)

    def _head(self, state: DeviceState) -> LogHead:
        if state.log is None:
            found = self._store.log_head(state.device.device)
            device = state.device
            state.log = found or LogHead(0, incident.genesis(device.type, device.device), 0)
        return state.log

    def write(self) -> None:
        """Commit the records that wait, and acknowledge them. Raises database-damaged."""
        due, self._due = self._due, {}
        records, self._records = self._records, {}
        if not due:
            return
        now, rows, heads = time.time(), [], []
        for name, reports in records.items():
            for one in reports:
                about = (one.code, one.at, one.source, one.n, one.digest)
                rows.append((name, one.number, float(one.time), now, *about))
            state = due[name]
            head = self._head(state)
            heads.append((name, head.number, head.digest, head.missing, state.uid(AUTHORITY)))
        try:
            if rows:
                self._store.write_records(rows, heads)
        except HostError:
            for state in due.values():
                state.log = None  # as fleet.db has it: the devices send it again
            raise
        for state in due.values():
            self._acknowledge(state, self._head(state).number)

    def _acknowledge(self, state: DeviceState, number: int) -> None:
        session = state.sessions.get(AUTHORITY)
        if session is not None and session.is_up:
            data = session.seal("ack", 0, {"incident": number}, None, self._clock())
            address = Address(state.device.type, state.device.device, AUTHORITY)
            self._send(address, Send("ack", data))
