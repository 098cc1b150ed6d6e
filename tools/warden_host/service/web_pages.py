"""Look up what the pages of the console show, a page of rows at a time.

Each look-up is on its caller's thread with a connection of its own to fleet.db, so that none
holds up the engine. No secret of the fleet is in an answer.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from warden_host import names
from warden_host.alarms import settings as alarm_settings
from warden_host.alarms.channel import Group
from warden_host.engine.engine import Engine
from warden_host.errors import HostError
from warden_host.fleet import errors_page
from warden_host.fleet.fleet import Fleet
from warden_host.reactions import settings as reaction_settings
from warden_host.rollout import rollouts as rollout_engine
from warden_host.service import live_state, past
from warden_host.service.authority import Authority
from warden_host.service.control import Caller, Handler, Line
from warden_host.service.request_fields import ROWS, page, paged, read_number, read_text
from warden_host.store.alarm_backlog import AlarmBacklog
from warden_host.store.store import Store

_MAX_SEARCH = 64
_MOST_SERIES = 24  # of a device's telemetry
_MOST_POINTS = 500  # of a series
_MAX_DEPTH = 3  # of a number within an event's body
_MAX_KEY = 64


class WebPages:
    """The operations that show, each for the role `look`."""

    def __init__(self, fleet: Fleet, authority: Authority) -> None:
        self._fleet = fleet
        self._authority = authority
        self.operations: dict[str, Handler] = {
            "device-page": self._devices,
            "history": self._history,
            "telemetry": self._telemetry,
            "rollouts": self._rollouts,
            "rollout-page": self._rollout,
            "releases": self._releases,
            "groups": self._groups,
            "group-page": self._group,
            "incidents": self._incidents,
            "alarms": self._alarms,
            "meanings": self._meanings,
        }

    def _devices(self, line: Line, caller: Caller) -> None:
        """Answer with a page of the devices that are searched for, and how many there are.

        search: a part of the name or the type. state, group: "" for all.
        """
        search = read_text(line, "search", "", _MAX_SEARCH).casefold()
        state, group = read_text(line, "state", "", 32), read_text(line, "group", "", 32)
        presences = self._authority.ask(lambda engine: engine.presences())
        with Store(self._fleet.database) as store:
            known, revoked = store.device_types(), store.revoked()
            members = set(store.group(group)) if group else None
            groups = list(store.groups())
        counts: dict[str, int] = {}
        found = []
        for name, type_, reason in known:
            presence = presences.get(name, ("", 0.0))[0]
            word = live_state.listed_state(presence, bool(reason), name in revoked)
            counts[word] = counts.get(word, 0) + 1
            if (
                (search in name.casefold() or search in type_.casefold())
                and state in ("", word)
                and (members is None or name in members)
            ):
                found.append([name, type_, word])
        caller.finish(paged(line, found) | {"counts": counts, "all": len(known), "groups": groups})

    def _history(self, line: Line, caller: Caller) -> None:
        """Answer with a page of a device's history, the newest first."""
        device, begin = _device(line), read_text(line, "begin", "", past.MAX_PLACE)
        self._authority.ask(Engine.write_events)
        with Store(self._fleet.database) as store:
            store.device(device)
            found = past.page(self._fleet, store, device, begin, ROWS)
        rows = [past.record(entry) for entry in found.rows]
        caller.finish({"rows": rows, "next": found.following})

    def _telemetry(self, line: Line, caller: Caller) -> None:
        """Send a line for each series of numbers in a device's events."""
        device = _device(line)
        self._authority.ask(Engine.write_events)  # what comes later is announced
        with Store(self._fleet.database) as store:
            store.device(device)
            events = store.events(device)
        series, left_out = series_of(events)
        for one in series:
            caller.send(one)
        caller.finish({"ok": True, "left_out": left_out})

    def _rollouts(self, line: Line, caller: Caller) -> None:
        """Answer with a page of the rollouts, the newest first."""
        start = read_number(line) * ROWS
        with Store(self._fleet.database) as store:
            found = store.newest_rollouts(start, ROWS)
            count = sum(store.rollout_counts().values())
        rows = [
            {
                "rollout": one.id,
                "release": one.release,
                "state": one.state,
                "reason": one.reason,
                "counts": counts,
            }
            for one, counts in found
        ]
        caller.finish(page(line, rows, count))

    def _rollout(self, line: Line, caller: Caller) -> None:
        """Answer with a rollout and a page of its devices."""
        with Store(self._fleet.database) as store:
            found = store.rollout(read_number(line, "rollout", 1 << 53))
        targets = [one._asdict() for one in found.targets]
        about = {"plan": found.plan, "started": found.started}
        caller.finish(paged(line, targets) | rollout_engine.summarize(found) | about)

    def _releases(self, line: Line, caller: Caller) -> None:
        """Answer with a page of the releases, the newest first."""
        with Store(self._fleet.database) as store:
            known = [
                {
                    "sequence": one.sequence,
                    "name": one.name,
                    "type": one.type,
                    "version": one.version,
                    "made": one.made,
                }
                for one in store.releases()
            ]
        caller.finish(paged(line, known[::-1]))

    def _groups(self, line: Line, caller: Caller) -> None:
        """Answer with a page of the groups."""
        with Store(self._fleet.database) as store:
            known = [[name, len(members)] for name, members in store.groups().items()]
        caller.finish(paged(line, known))

    def _group(self, line: Line, caller: Caller) -> None:
        """Answer with a page of a group's devices."""
        name = names.check_id(read_text(line, "group"), "group")
        with Store(self._fleet.database) as store:
            members = store.group(name)
        caller.finish(paged(line, members) | {"group": name})

    def _incidents(self, line: Line, caller: Caller) -> None:
        """Answer with a page of all devices' incidents, the newest first, and all reactions."""
        number = read_number(line)
        with Store(self._fleet.database) as store:
            found = store.newest_incidents(number * ROWS, ROWS + 1)
            done = store.reactions()
        settings = reaction_settings.load(self._fleet)
        rows = [
            {"device": device, "reaction": settings.rules(type_, device).reactions.get(one.code)}
            | one._asdict()
            for device, type_, one in found[:ROWS]
        ]
        reactions = [{"device": device} | asdict(one) for device, one in done.items()][:ROWS]
        caller.finish(
            {
                "rows": rows,
                "page": number,
                "more": len(found) > ROWS,
                "reactions": reactions,
                "restricted": len(done),
            }
        )

    def _meanings(self, _: Line, caller: Caller) -> None:
        """Send a line for each code of docs/errors.md: what it means, and what to do."""
        with contextlib.suppress(HostError):  # without the page codes are shown alone
            for one in errors_page.entries().values():
                means = f"{one.means} {one.do}".replace("`", "")
                caller.send({"code": one.code, "means": means})
        caller.finish({"ok": True})

    def _alarms(self, _: Line, caller: Caller) -> None:
        """Answer with where alarms go, without addresses of people, and with those that wait."""
        settings, _ways = alarm_settings.load(self._fleet)
        with AlarmBacklog(self._fleet.database) as store:
            backlog = store.alarm_backlog()
        waiting = [
            asdict(alarm)
            for record in backlog.values()
            for alarm in Group.from_record(record).lines
        ]
        caller.finish(
            {
                "mail": len(settings.mail),
                "webhook": settings.webhook,
                "kinds": sorted(settings.kinds),
                "away_hours": settings.away_hours,
                "disk_mib": settings.disk_mib,
                "refused_logins": settings.refused_logins,
                "waiting": waiting[:ROWS],
            }
        )


def series_of(
    events: Sequence[tuple[float, str, str, str]],
) -> tuple[list[dict[str, Any]], int]:
    """Return the series of numbers in a device's events, and how many series were left out.

    events: (time, application, name, body as JSON), the oldest first. A series is
    {"event", "field", "points": [[unix seconds, number], …]}; an event that came to several
    applications is one point. The newest points and the first series in the alphabet are kept.
    """
    found: dict[tuple[str, str], dict[float, float]] = {}
    for moment, _, name, text in events:
        try:
            body = json.loads(text)
        except ValueError:
            continue  # past.entries() reports a damaged row
        for field, number in _numbers(body, ""):
            found.setdefault((name, field), {})[moment] = number
    keys = sorted(found)
    shown = [
        {"event": name, "field": field, "points": _newest(found[name, field])}
        for name, field in keys[:_MOST_SERIES]
    ]
    return shown, len(keys) - len(shown)


def _newest(points: dict[float, float]) -> list[list[float]]:
    return [[moment, points[moment]] for moment in sorted(points)[-_MOST_POINTS:]]


def _numbers(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, float]]:
    """Yield (path of its keys, number) of each finite number in a body."""
    if isinstance(value, bool):
        yield path, int(value)
    elif isinstance(value, int) and abs(value) < 1 << 53:
        yield path, value
    elif isinstance(value, float) and math.isfinite(value):
        yield path, value
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        for key, one in value.items():
            if len(key) <= _MAX_KEY:
                yield from _numbers(one, f"{path}.{key}" if path else key, depth + 1)


def _device(line: Line) -> str:
    return names.check_id(read_text(line, "device"), "device ID")
