"""Watch a served fleet for alarms, and send them to its operators."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from warden_host.alarms import settings as alarm_settings
from warden_host.alarms.channel import Channel, Group
from warden_host.alarms.conditions import Conditions
from warden_host.alarms.rules import Alarm, RefusedLogins, alarm_of
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError, filesystem_error
from warden_host.fleet.fleet import Fleet
from warden_host.otp.notify.delivery import Undelivered, Way
from warden_host.otp.notify.mail import MailWay
from warden_host.otp.notify.webhook import WebhookWay
from warden_host.service import crl_keeper
from warden_host.service.background import notices, round_guard
from warden_host.store.alarm_backlog import AlarmBacklog

CHECK_S = 60.0
DEVICE_KINDS = ("quarantined", "diverged", "incident", "refused")


def ways(fleet: Fleet) -> list[tuple[str, str, Way]]:
    """Return (way, address, how it is sent) of all who get alarms. Raises config-malformed."""
    wanted, found = alarm_settings.load(fleet)
    by: list[tuple[str, str, Way]] = []
    if found.mail is not None:
        mail = MailWay(found.mail, fleet.keys)
        by += [("mail", address, mail) for address in wanted.mail]
    if found.webhook is not None and wanted.webhook:
        by.append(("webhook", "", WebhookWay(found.webhook, fleet.keys)))
    return by


class Delivery(NamedTuple):
    """What became of a test alarm. to: an address, "" of a webhook. why: "" where it arrived."""

    way: str
    to: str
    why: str


def send_test(fleet: Fleet) -> Iterator[Delivery]:
    """Send a test alarm to all who get alarms, and yield what became of each.

    Raises: not-applicable where warden.toml names no receiver, config-malformed.
    """
    found = ways(fleet)
    if not found:
        raise HostError(
            "not-applicable",
            "no alarms go anywhere",
            "give warden.toml a table [alarms]: docs/operations.md",
        )
    alarm = Alarm("test", "", "this is a test: nothing happened", time.time())
    for name, address, way in found:
        try:
            way.send(Group([alarm]).message(fleet.root.name, name, address))
        except Undelivered as error:
            yield Delivery(name, address, error.why)
        else:
            yield Delivery(name, address, "")


class AlarmService:
    """Run while it is entered. announce: shows a notice; called on threads of its own."""

    def __init__(self, fleet: Fleet, announce: Callable[[FleetEvent], None]) -> None:
        """Raises config-malformed."""
        self._settings, _ = alarm_settings.load(fleet)
        self._announce = announce
        self._channels = [
            Channel(fleet.root.name, name, address, way, self._report, notices(announce))
            for name, address, way in ways(fleet)
        ]
        self._conditions = Conditions(
            fleet,
            self._settings,
            lambda store, now: crl_keeper.ending_soon(fleet, store, now),
        )
        self._logins = RefusedLogins(self._settings.refused_logins)
        self._database = fleet.database
        self._kept: dict[str, Any] = {}
        self._stop = threading.Event()
        self._rounds = round_guard("conditions were not checked", announce)
        self._thread = threading.Thread(target=self._run, name="warden-alarms", daemon=True)

    def __enter__(self) -> "AlarmService":
        if self._channels:
            self._restore()
            for channel in self._channels:
                channel.start()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._channels:
            for channel in self._channels:
                channel.close()
            self._keep()

    def on_device_event(self, fleet_event: FleetEvent) -> None:
        """Take an event of a device from the engine, where no throttle hides one."""
        if fleet_event.kind in DEVICE_KINDS:
            self._put(alarm_of(fleet_event))

    def on_notice(self, fleet_event: FleetEvent) -> None:
        """Take a notice about the authority."""
        if fleet_event.kind == "notice":
            self._put(self._logins.add(fleet_event) or alarm_of(fleet_event))

    def _put(self, alarm: Alarm | None) -> None:
        if alarm is not None and alarm.kind in self._settings.kinds:
            for channel in self._channels:
                channel.put(alarm)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._rounds.attempt(self._check)
            self._rounds.attempt(self._keep)
            self._stop.wait(CHECK_S)

    def _check(self) -> None:
        try:
            for alarm in self._conditions.check():
                self._put(alarm)
        except HostError as error:
            self._report(f"conditions can't be checked: {error}")
        except OSError as error:
            self._report(f"conditions can't be checked: {filesystem_error(error).text}")

    def _restore(self) -> None:
        try:
            with AlarmBacklog(self._database) as store:
                self._kept = store.alarm_backlog()
        except HostError as error:
            self._report(f"alarms that waited can't be read: {error}")
        for channel in self._channels:
            channel.restore(self._kept.get(channel.key))

    def _keep(self) -> None:
        """Keep what waits, for a start after a crash or a stop; nothing is written twice."""
        found = {channel.key: channel.backlog() for channel in self._channels}
        waiting = {key: record for key, record in found.items() if record}
        if waiting == self._kept:
            return
        try:
            with AlarmBacklog(self._database) as store:
                store.set_alarm_backlog(waiting)
            self._kept = waiting
        except HostError as error:
            self._report(f"alarms that wait can't be kept: {error}")

    def _report(self, text: str) -> None:
        self._announce(FleetEvent("notice", text=text))
