"""Run what `warden serve` runs: the broker, the authority and the control socket.

They start in this order and stop in the reverse one. Tests and the demo use the same entry:
`with serving(fleet, announce) as service:` and then `service.authority.command(Request(…))`.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from warden_host.broker.backend import Broker
from warden_host.devices import revocation
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.service import clock_guard
from warden_host.service.authority import Authority
from warden_host.service.control import Caller, ControlServer, Handler, Line
from warden_host.service.display_queue import screen_thread
from warden_host.service.rollout_handler import RolloutHandler
from warden_host.store.store import Store


@dataclass(frozen=True)
class Service:
    """The parts of a fleet that is served."""

    broker: Broker
    authority: Authority

    def check(self) -> None:
        """Raise broker-failed or not-serving if the broker or the engine's thread ended."""
        self.broker.check_alive()
        if not self.authority.alive():
            raise HostError("not-serving", "the authority's thread ended", "report this as a bug")


@contextlib.contextmanager
def serving(
    fleet: Fleet,
    announce: Callable[[FleetEvent], None] = lambda _: None,
    accept_clock: bool = False,
) -> Iterator[Service]:
    """Serve a fleet while the context lasts.

    announce: called with each event, on another thread.
    accept_clock: the owner confirms this host's time.
    Raises: clock-jumped, and what Broker and Authority raise.
    """
    handler = _Dispatcher()
    control = ControlServer(fleet.control, handler.handle)

    with contextlib.ExitStack() as stack, screen_thread(announce) as show:

        def announce_to_all(fleet_event: FleetEvent) -> None:
            control.announce(fleet_event)
            show(fleet_event)

        with Store(fleet.database) as store:
            clock_guard.check_start(store, accept_clock)
        # Before the broker takes its first connection.
        revocation.enforce_endings(fleet)
        with Broker(fleet) as broker, Authority(fleet, announce_to_all) as authority:
            handler.authority, handler.control, handler.broker = authority, control, broker
            handler.announce = announce_to_all
            rollouts = RolloutHandler(fleet, authority)
            stack.callback(rollouts.close)
            rollouts.resume_all()
            handler.operations.update(rollouts.operations)
            with control:
                yield Service(broker, authority)


class _Dispatcher:
    """Dispatch requests of the control socket; the parts are set when they exist."""

    authority: Authority
    control: ControlServer
    broker: Broker
    announce: Callable[[FleetEvent], None]

    def __init__(self) -> None:
        self.operations: dict[str, Handler] = {
            "send": self._send,
            "watch": self._watch,
            "online": self._online,
            "clear": self._clear,
            "rotate": self._rotate,
            "end": self._end,
            "unlock": self._unlock,
            "codes": self._codes,
            "reload": self._reload,
        }

    def handle(self, line: Line, caller: Caller) -> None:
        """Start the operation that a request names. Raises control-malformed."""
        operation = line.get("op")
        if not isinstance(operation, str) or operation not in self.operations:
            raise HostError("control-malformed", "no such operation")
        self.operations[operation](line, caller)

    def _send(self, line: Line, caller: Caller) -> None:
        self.authority.submit(_read_request(line), caller.finish)

    def _watch(self, _: Line, caller: Caller) -> None:
        self.control.watch(caller)
        caller.send(FleetEvent("notice", text="watching").record())

    def _online(self, _: Line, caller: Caller) -> None:
        caller.finish({"online": self.authority.ask(Engine.online)})

    def _clear(self, line: Line, caller: Caller) -> None:
        device = _read_text(line, "device")
        cleared = self.authority.ask(lambda engine: engine.clear(device))
        caller.finish({"ok": True, "cleared": cleared})

    def _rotate(self, line: Line, caller: Caller) -> None:
        device = _read_text(line, "device")
        body = self.authority.ask(lambda engine: engine.start_rotation(device))
        self.authority.submit(_authority_request(line, "rotate", body), caller.finish)

    def _end(self, line: Line, caller: Caller) -> None:
        self.authority.end_device(_read_text(line, "device"), caller.finish)

    def _unlock(self, line: Line, caller: Caller) -> None:
        args = {"device": _read_text(line, "device")}
        self.authority.submit(_authority_request(line, "unlock", args), caller.finish)

    def _codes(self, _: Line, caller: Caller) -> None:
        self.authority.codes.console.watch(caller.send, caller.gone)

    def _reload(self, line: Line, caller: Caller) -> None:
        device = _read_text(line, "device", "")
        self.authority.ask(lambda engine: engine.unload(device))
        self.authority.reload()
        text = self.broker.packet_limit_warning()
        if text:
            self.announce(FleetEvent("notice", text=text))
        caller.finish({"ok": True})


def _authority_request(line: Line, command: str, args: dict[str, Any]) -> Request:
    """Return a command of the authority's own.

    args: from the store, so that no secret passes the control socket.
    """
    request = _read_request(line | {"command": command, "app": AUTHORITY, "forge": ""})
    return replace(request, args=args)


def _read_request(line: Line) -> Request:
    args = line.get("args", {})
    if not isinstance(args, dict):
        raise HostError("control-malformed", "args is not an object")
    ttl, timeout = line.get("ttl", 30), line.get("timeout", 10)
    if type(ttl) is not int or not isinstance(timeout, (int, float)) or not 0 < timeout <= 600:
        raise HostError("control-malformed", "ttl or timeout is out of range")
    return Request(
        device=_read_text(line, "device"),
        command=_read_text(line, "command"),
        args=args,
        app=_read_text(line, "app", ""),
        ttl_s=ttl,
        timeout_s=float(timeout),
        forge=_read_text(line, "forge", ""),
    )


def _read_text(line: Line, key: str, default: Any = None) -> str:
    value = line.get(key, default)
    if not isinstance(value, str) or len(value) > 256:
        raise HostError("control-malformed", f"{key} is missing or no text")
    return value
