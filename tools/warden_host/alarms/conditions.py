"""Find what is wrong for as long as it lasts: devices away, a full disk, certificates that end."""

import shutil
import time
from collections.abc import Callable

from warden_host.alarms.rules import Alarm
from warden_host.alarms.settings import AlarmSettings
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

AGAIN_S = 24 * 3600.0  # after which a condition that lasts is an alarm again
_MIB = 1 << 20
_HOUR_S = 3600


class Conditions:
    """Checks of a fleet, each of which is an alarm once a day while it lasts.

    ending: returns a sentence for each certificate that ends soon. free: bytes left on the disk.
    """

    def __init__(
        self,
        fleet: Fleet,
        settings: AlarmSettings,
        ending: Callable[[Store, float], list[str]],
        clock: Callable[[], float] = time.time,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._ending = ending
        self._clock = clock
        self._free = free or (lambda: shutil.disk_usage(fleet.root).free)
        self._announced: dict[tuple[str, str, str], float] = {}  # → when it was an alarm last

    def check(self) -> list[Alarm]:
        """Return the alarms that are due. Raises what the store raises."""
        now = self._clock()
        with Store(self._fleet.database) as store:
            present = [*self._away(store, now), *self._disk(now)]
            present += [Alarm("certificate", "", text, now) for text in self._ending(store, now)]
        # A certificate's text counts days: the same matter is named by what is before "ends".
        keyed = {(*alarm.key, alarm.text.split(" ends in ")[0]): alarm for alarm in present}
        due = [key for key in keyed if now - self._announced.get(key, 0) >= AGAIN_S]
        self._announced = {key: self._announced.get(key, now) for key in keyed} | dict.fromkeys(
            due, now
        )
        return [keyed[key] for key in due]

    def _away(self, store: Store, now: float) -> list[Alarm]:
        limit = self._settings.away_hours * _HOUR_S
        found = []
        for known in store.devices():
            since = max(known.last_seen, known.asleep_until)
            if known.ending is None and known.last_seen and now - since > limit:
                found.append(Alarm("away", known.device, "not heard for too long", now))
        return found

    def _disk(self, now: float) -> list[Alarm]:
        limit = self._settings.disk_mib
        if self._free() >= limit * _MIB:
            return []
        return [Alarm("disk", "", f"less than {limit} MiB are left for the fleet's folder", now)]
