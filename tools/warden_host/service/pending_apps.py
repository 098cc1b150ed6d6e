"""Give devices the changes of their applications, as soon as each has a session with us.

Runs on the thread that has the engine. The device is asked for its state first: a number above its
own and not below the time is never one that it has taken for another change, even where fleet.db
comes from a backup. A few devices at once are enough, and leave room for commands.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from warden_host import jsontext
from warden_host.devices import app_changes
from warden_host.engine import commands
from warden_host.engine.apps import follow
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Job, Wait
from warden_host.engine.request import Request
from warden_host.errors import HostError, LinkError, class_of
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.store.app_changes import AppChange
from warden_host.store.store import Store

_ANSWER_S = 10.0
_AT_ONCE = 16  # devices
_RECHECK_S = 30.0  # between two looks whether a renamed application has proved itself
_MAX_ID = (1 << 32) - 1
_DONE = {"add": "has application {}", "grant": "has the rights of {}", "remove": "has {} no more"}

# A step of a job: the device's state, or the code with which it refused the order.
Step = Generator[Wait, FleetEvent | None, "_State | str"]


@dataclass(frozen=True)
class _State:
    """What a device answers. id: of the last change that it took. up: applications in session."""

    id: int
    apps: list[str]
    up: list[str]


class PendingApps:
    """The changes that are pending. finish(): completes renames, on another thread."""

    def __init__(self, engine: Engine, finish: Callable[[], Any]) -> None:
        self._engine = engine
        self._finish = finish
        self._waiting: dict[str, None] = {}  # devices, in their order
        self._under_way: set[str] = set()
        self._unproved: set[str] = set()  # devices with a rename that waits for its session
        engine.watchers.add(self._on_event, "session", "came")

    def apply(self) -> int:
        """Give connected devices what fleet.db has for them now; return how many they are."""
        changed = {change.device for change in self._engine.store.app_changes()}
        connected = [name for name, live in self._engine.online().items() if AUTHORITY in live]
        found = [device for device in connected if device in changed]
        for device in found:
            self._waiting[device] = None
        self._start_next()
        return len(found)

    def _on_event(self, fleet_event: FleetEvent) -> None:
        """Give a device what waits for it; one that slept comes back in its old session."""
        engine, device = self._engine, fleet_event.device
        if engine.store.has_app_changes(device):
            state = engine.state(device)
            session = state.sessions.get(AUTHORITY)
            if state.ending is None and session is not None and session.is_up:
                self._waiting[device] = None
                self._start_next()

    def _start_next(self) -> None:
        while len(self._under_way) < _AT_ONCE:
            device = next((one for one in self._waiting if one not in self._under_way), None)
            if device is None:
                return
            del self._waiting[device]
            self._under_way.add(device)
            self._engine.start(self._give_all(device), functools.partial(self._end, device))

    def _end(self, device: str, result: dict[str, Any] | HostError) -> None:
        self._under_way.discard(device)
        if isinstance(result, HostError) and class_of(result.code) is not LinkError:
            self._engine.notify(
                FleetEvent("notice", device, AUTHORITY, code=result.code, text=result.text)
            )
        self._start_next()

    def _give_all(self, device: str) -> Job:
        """Give a device its changes, one after the other."""
        engine, given = self._engine, 0
        follow(engine, device)
        state = yield from self._ask(device, {})
        if isinstance(state, str):
            raise HostError(
                "command-refused",
                f"{device} does not say which applications it has: {state}",
                "a firmware from before this command refuses it: update it",
            )
        tried: set[str] = set()
        while True:
            change = self._next(device, state, tried)
            if change is None:
                break
            tried.add(change.appid)
            if change.number is None or change.number < state.id:
                # Nor is it that of another change that waits: a refused one has its number, too.
                others = [one.number or 0 for one in engine.store.app_changes(device)]
                number = max(state.id + 1, engine.clock().unix, max(others) + 1)
                engine.store.number_app_change(change, number)
                change = replace(change, number=number)
            if change.number != state.id:  # else its reply was lost
                answer = yield from self._ask(device, change.order(change.number or 0))
                if isinstance(answer, str):
                    self._refuse(change, answer)
                    continue
                state = answer
            self._confirm(device, change, tried)
            given += 1
        self._look_again(device)
        return {"ok": True, "given": given}

    def _next(self, device: str, state: _State, tried: set[str]) -> AppChange | None:
        """Return the change that is due: what is taken away goes first, and makes room."""
        due = [
            change
            for change in self._engine.store.app_changes(device)
            if change.appid not in tried and (not change.after or change.after in state.up)
        ]
        return min(due, key=lambda change: change.kind != "remove", default=None)

    def _refuse(self, change: AppChange, code: str) -> None:
        self._engine.store.refuse_app_change(change, code)
        text = f"did not take a change of {change.appid}: {code}"
        self._engine.notify(FleetEvent("notice", change.device, change.appid, text=text))

    def _confirm(self, device: str, change: AppChange, tried: set[str]) -> None:
        engine = self._engine
        if not engine.store.confirm_app_change(change):
            tried.discard(change.appid)  # another change replaced it while it was on its way
        follow(engine, device)
        text = _DONE[change.kind].format(change.appid)
        engine.notify(FleetEvent("notice", device, change.appid, text=text))

    def _look_again(self, device: str) -> None:
        """Note a rename that waits for its new application, and complete those that are over."""
        store = self._engine.store
        if any(change.after for change in store.app_changes(device)):
            first = not self._unproved
            self._unproved.add(device)
            if first:
                self._engine.start(self._recheck(), lambda _: None)
        else:
            self._unproved.discard(device)
        if any(not store.app_changes(appid=old) for old in store.renames()):
            self._finish()

    def _recheck(self) -> Job:
        while self._unproved:
            yield Wait(None, self._engine.clock().steady + _RECHECK_S)
            self.apply()
            self._unproved &= {change.device for change in self._engine.store.app_changes()}
        return {"ok": True}

    def _ask(self, device: str, body: dict[str, Any]) -> Step:
        """Give the command `apps`. Raises what delays it until the next contact."""
        request = Request(device, "apps", body, app=AUTHORITY, timeout_s=_ANSWER_S, quiet=not body)
        try:
            answer = yield from commands.job(self._engine, request)
        except HostError as error:
            if error.code == "mqtt-too-large":
                return error.code
            raise
        if answer.get("ok") is not True:
            code = jsontext.slug(answer.get("reply", {}).get("error"))
            if class_of(code) is LinkError:
                raise HostError("timed-out", f"{device} answered {code}")
            return code
        return _read(device, answer["reply"].get("result"))


def rename_finisher(fleet: Fleet, reload: Callable[[], None]) -> Callable[[], None]:
    """Return `finish` for PendingApps. reload(): follows what is registered now."""

    def finish() -> None:
        with contextlib.suppress(HostError), Store(fleet.database) as store:
            app_changes.finish_renames(fleet, store)  # else at the next start, or change
            reload()

    return lambda: threading.Thread(target=finish, name="warden-renames", daemon=True).start()


def _read(device: str, result: Any) -> _State:
    """Return the state in a device's reply. Raises bad-body."""
    if isinstance(result, dict):
        number, apps, up = (result.get(key) for key in ("id", "apps", "up"))
        good = type(number) is int and 0 <= number < _MAX_ID
        for names in (apps, up):
            good &= isinstance(names, list) and all(isinstance(one, str) for one in names)
        if good and isinstance(number, int) and isinstance(apps, list) and isinstance(up, list):
            return _State(number, apps, up)
    raise HostError("bad-body", f"{device} answered in another form")
