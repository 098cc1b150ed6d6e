"""Deliver alarms by one way: the first at once, then one message a minute with a count.

Alarms of the same kind and device are one line with a count; beyond MOST_LINES only the kinds are
counted. What a server does not take stays and is tried again, with pauses that double: nothing
here grows with the number of alarms or with the time that the server is away. What waits when the
service ends is sent once more then, and kept for the next start if that fails.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from warden_host import jsontext
from warden_host.alarms.rules import Alarm
from warden_host.errors import internal_error
from warden_host.otp.notify.delivery import Message, Undelivered, Way
from warden_host.round_guard import RoundGuard, Tell

GROUP_S = 60.0
MOST_PAUSE_S = 900.0
MOST_LINES = 50
_CLOSE_S = 5.0
_TEXT = 200  # characters of one alarm's text
_WHOLE_SECONDS = [str, str, str, int, int]


class Group:
    """Alarms that wait to be sent together."""

    def __init__(self, alarms: Iterable[Alarm] = ()) -> None:
        self._lines: dict[tuple[str, str], Alarm] = {}
        self.more: dict[str, int] = {}  # kind → alarms without a line
        for alarm in alarms:
            self.add(alarm)

    @property
    def lines(self) -> list[Alarm]:
        return list(self._lines.values())

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, alarm: Alarm) -> None:
        """Add an alarm to the line of its kind and device."""
        old = self._lines.get(alarm.key)
        if old is not None:
            self._lines[alarm.key] = replace(alarm, count=old.count + alarm.count)
        elif len(self._lines) < MOST_LINES:
            self._lines[alarm.key] = alarm
        else:
            self.more[alarm.kind] = self.more.get(alarm.kind, 0) + alarm.count

    def merge(self, later: "Group") -> None:
        """Add all of a later group."""
        for alarm in later.lines:
            self.add(alarm)
        for kind, count in later.more.items():
            self.more[kind] = self.more.get(kind, 0) + count

    def record(self) -> dict[str, Any]:
        """Return the group for JSON, with which from_record() makes it again."""
        return {"alarms": [list(vars(alarm).values()) for alarm in self.lines], "more": self.more}

    @classmethod
    def from_record(cls, record: Any) -> "Group":
        """Return the group of a record, without what has another form."""
        found = record if isinstance(record, dict) else {}
        made = cls()
        for fields in found.get("alarms", ()):
            if [type(one) for one in fields] in ([str, str, str, float, int], _WHOLE_SECONDS):
                made.add(Alarm(*fields))
        more = found.get("more")
        if isinstance(more, dict):
            made.more = {str(kind): n for kind, n in more.items() if type(n) is int}
        return made

    def counts(self) -> dict[str, int]:
        """Return how often each kind came."""
        found = dict(self.more)
        for alarm in self.lines:
            found[alarm.kind] = found.get(alarm.kind, 0) + alarm.count
        return found

    def message(self, fleet: str, way: str, address: str) -> Message:
        """Return the message for a way; its text's first line is a mail's subject."""
        counts = self.counts()
        total = sum(counts.values())
        kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items())
        lines = [f"{fleet}: {total} alarm{'s' if total > 1 else ''} ({kinds})", ""]
        lines += [_line(alarm) for alarm in self.lines]
        lines += [f"{count} more: {kind}" for kind, count in self.more.items()]
        lines += ["", "All of them: `warden log` and `warden devices` on the fleet's host."]
        records = tuple(
            {
                "kind": alarm.kind,
                "device": alarm.device,
                "text": _printable(alarm.text),
                "time": int(alarm.time),
                "count": alarm.count,
            }
            for alarm in self.lines
        )
        return Message(
            fleet, "alarms", way, address, 0, 0.0, text="\n".join(lines), alarms=records
        )


def _line(alarm: Alarm) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(alarm.time))
    who = f"{alarm.device}: " if alarm.device else ""
    times = f" ({alarm.count} times)" if alarm.count > 1 else ""
    return f"{moment}  {alarm.kind}  {who}{_printable(alarm.text)}{times}"


def _printable(text: str) -> str:
    return jsontext.printable(text[:_TEXT])


class Channel:
    """One way and address, with a thread of its own. put() never waits and never raises.

    report: called with a sentence when alarms are not delivered, at the first failure, and when
    they are again. tell: called for an unforeseen exception.
    """

    def __init__(
        self,
        fleet: str,
        name: str,
        address: str,
        way: Way,
        report: Callable[[str], None],
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
        group_s: float = GROUP_S,
    ) -> None:
        """name: of the way, such as mail. clock: steady seconds. group_s: between messages."""
        self._fleet = fleet
        self._name = name
        self._address = address
        self._way = way
        self._report = report
        self._clock = clock
        self._group_s = group_s
        self._pause_s = group_s
        self._failing = False
        self._waiting = Group()
        self._under_way = Group()
        self._due = clock()  # not before
        self._stopping = False
        self._changed = threading.Condition()
        self._rounds = RoundGuard(f"alarms by {name} were not sent", tell)
        self._thread = threading.Thread(target=self._run, name=f"warden-alarm-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Send what waits, and end the thread; one that hangs in a socket is left to itself.

        What ends the service, such as a second host, is an alarm of its last moment.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    @property
    def key(self) -> str:
        """The way and its address."""
        return f"{self._name} {self._address}".strip()

    def restore(self, record: Any) -> None:
        """Add what waited when the service ended."""
        with self._changed:
            self._waiting.merge(Group.from_record(record))

    def backlog(self) -> dict[str, Any]:
        """Return a record of what is not delivered yet; empty for nothing."""
        with self._changed:
            group = Group(self._under_way.lines)
            group.more = dict(self._under_way.more)
            group.merge(self._waiting)
            return group.record() if group else {}

    def put(self, alarm: Alarm) -> None:
        with self._changed:
            self._waiting.add(alarm)
            self._changed.notify()

    def seconds_to_next(self) -> float | None:
        """Return how long to wait before a message goes; None for as long as no alarm waits."""
        return max(0.0, self._due - self._clock()) if self._waiting else None

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and self.seconds_to_next() != 0.0:
                    self._changed.wait(self.seconds_to_next())
                stopping, waiting = self._stopping, bool(self._waiting)
            if waiting:
                self._rounds.attempt(self.send_waiting)
            if stopping:
                return

    def send_waiting(self) -> None:
        """Send what waits, as one message; keep it where the server may take it later."""
        with self._changed:
            group = self._under_way  # of an attempt that failed in between
            group.merge(self._waiting)
            self._waiting = Group()
            self._due = self._clock() + self._pause_s
        why, final = self._send(group)
        with self._changed:
            self._under_way = Group()
            if why and not final:
                group.merge(self._waiting)
                self._waiting = group
                self._pause_s = min(self._pause_s * 2, MOST_PAUSE_S)
            else:
                self._pause_s = self._group_s
            self._due = self._clock() + self._pause_s
        if bool(why) != self._failing:
            self._failing = bool(why)
            lost = "they are lost" if final else "they are tried again"
            self._report(
                f"alarms by {self._name} are not delivered: {why}; {lost}"
                if why
                else f"alarms by {self._name} are delivered again"
            )

    def _send(self, group: Group) -> tuple[str, bool]:
        """Return why the group was not delivered, or "", and whether trying again is no use."""
        try:
            self._way.send(group.message(self._fleet, self._name, self._address))
        except Undelivered as error:
            return error.why, error.final
        except Exception as error:  # noqa: BLE001  a bug in a way must not end its thread
            return internal_error(error).text, True
        return "", False
