"""Send each pending wipe as soon as its device has a session with the authority.

Runs on the thread that has the engine. Removing a wiped device's account may take seconds, so a
thread of its own does that.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from warden_host import jsontext
from warden_host.devices import revocation
from warden_host.engine import commands
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Done
from warden_host.engine.request import Request
from warden_host.errors import HostError, internal_error
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.store.store import Store

_ANSWER_S = 10.0


class PendingWipes:
    """The wipes that are pending. finish(device): removes a wiped device, on another thread."""

    def __init__(self, engine: Engine, finish: Callable[[str], Any]) -> None:
        self._engine = engine
        self._finish = finish
        self._under_way: set[str] = set()
        # Devices with a new session since the wipe was sent, perhaps in an older one.
        self._reconnected: set[str] = set()
        engine.watchers.add(self._on_event, "session", "command")

    def apply(self, device: str, done: Done, timeout_s: float = _ANSWER_S) -> None:
        """Apply the order in fleet.db that ends a device; send the wipe if it is connected.

        done gets {"wiped": bool, …}; False: at its next contact. Raises device-unknown.
        """
        engine = self._engine
        engine.apply_ending(device)
        ending = engine.state(device).ending
        if ending is None or not ending.wipe:
            done({"ok": True, "wiped": False})
        elif device in self._under_way:
            done({"ok": True, "wiped": False, "why": "busy"})
        else:
            self._send_wipe(device, done, timeout_s)

    def _on_event(self, fleet_event: FleetEvent) -> None:
        if fleet_event.kind == "session" and fleet_event.app == AUTHORITY:
            if fleet_event.device in self._under_way:
                self._reconnected.add(fleet_event.device)
            else:
                self._send_wipe_if_connected(fleet_event.device)
        elif fleet_event.kind == "command" and fleet_event.name == "wipe":
            self._engine.store.record_wipe_sent(fleet_event.device, time.time())

    def _send_wipe_if_connected(self, device: str) -> None:
        state = self._engine.state(device)
        session = state.sessions.get(AUTHORITY)
        if state.ending is None or not state.ending.wipe:
            return
        if session is not None and session.is_up:
            self._send_wipe(device, lambda _: None, _ANSWER_S)

    def _send_wipe(self, device: str, done: Done, timeout_s: float) -> None:
        request = Request(device, "wipe", {"device": device}, app=AUTHORITY, timeout_s=timeout_s)

        def on_result(result: dict[str, Any] | HostError) -> None:
            self._under_way.discard(device)
            self._on_result(device, result, done)

        self._under_way.add(device)
        try:
            job = commands.job(self._engine, request)
        except HostError as error:
            on_result(error)
            return
        self._engine.start(job, on_result)

    def _on_result(self, device: str, result: dict[str, Any] | HostError, done: Done) -> None:
        reconnected = device in self._reconnected
        self._reconnected.discard(device)
        # Answer the caller first, so that no later failure leaves it waiting.
        if isinstance(result, HostError):
            done({"ok": True, "wiped": False, "why": result.code})
            if reconnected:
                self._send_wipe_if_connected(device)
            return
        if result.get("ok") is not True:
            code = jsontext.slug(result.get("reply", {}).get("error"))
            done(HostError("command-refused", f"{device} refused to be wiped: {code}"))
            text = f"refused to be wiped: {code}; the command is sent again at its next session"
            self._engine.notify(FleetEvent("notice", device, code="command-refused", text=text))
            return
        try:
            self._engine.store.record_wipe_done(device, time.time())
        except Exception as error:  # noqa: BLE001  as above
            failure = error if isinstance(error, HostError) else internal_error(error)
            done(failure)
            text = f"it wipes itself, but that can't be kept, and it stays listed: {failure.text}"
            self._engine.notify(FleetEvent("notice", device, code=failure.code, text=text))
            return
        self._engine.notify(FleetEvent("notice", device, text="it wipes itself: its account goes"))

        def finish() -> None:
            try:
                self._finish(device)
                done({"ok": True, "wiped": True})
            except HostError as error:
                done(error)
            except Exception as error:  # noqa: BLE001  the caller needs an answer
                done(internal_error(error))

        threading.Thread(target=finish, name="warden-farewell", daemon=True).start()


def finisher(fleet: Fleet, drop_device: Callable[[str], Any]) -> Callable[[str], None]:
    """Return `finish` for PendingWipes. drop_device(device): removes it from the engine."""

    def finish(device: str) -> None:
        with Store(fleet.database) as store:
            revocation.remove_wiped(fleet, store, device)
        drop_device(device)

    return finish
