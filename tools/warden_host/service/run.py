"""`warden serve` put together: broker, authority, control socket, in this order and back.

Also for tests and the demo: `with serving(fleet, announce) as service:` is a whole fleet at work, and
`service.authority.command(Request(…))` gives a command.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import revocation
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.service import clock_guard
from warden_host.service.authority import Authority
from warden_host.service.control import Caller, ControlServer, Line
from warden_host.service.display_queue import screen_thread
from warden_host.service.rollout_handler import OPERATIONS, RolloutHandler
from warden_host.store.store import Store


@dataclass(frozen=True)
class Service:
    broker: Broker
    authority: Authority

    def check(self) -> None:
        """Raises broker-failed or not-serving when a part ended behind our back."""
        if not self.broker.alive():
            raise HostError("broker-failed", "mosquitto ended", "see broker/mosquitto.log")
        if not self.authority.alive():
            raise HostError("not-serving", "the authority's thread ended", "report this as a bug")


@contextlib.contextmanager
def serving(
    fleet: Fleet,
    announce: Callable[[FleetEvent], None] = lambda _: None,
    accept_clock: bool = False,
) -> Iterator[Service]:
    """Raises clock-jumped and what the broker and the authority raise; announce is called on another thread.

    accept_clock: the owner confirms this host's time.
    """
    handler = _Dispatcher()
    control = ControlServer(fleet.control, handler.handle)

    with contextlib.ExitStack() as stack, screen_thread(announce) as show:

        def tell(fleet_event: FleetEvent) -> None:
            control.announce(fleet_event)
            show(fleet_event)

        with Store(fleet.database) as store:
            clock_guard.check_start(store, accept_clock)
        # Before the broker takes its first connection.
        revocation.enforce(fleet)
        with Broker(fleet) as broker, Authority(fleet, tell) as authority:
            handler.authority, handler.control, handler.broker = authority, control, broker
            handler.tell = tell
            handler.rollouts = RolloutHandler(fleet, authority)
            stack.callback(handler.rollouts.close)
            handler.rollouts.resume_all()
            with control:
                yield Service(broker, authority)


class _Dispatcher:
    """Takes requests from the control socket to the authority."""

    authority: Authority
    control: ControlServer
    rollouts: RolloutHandler
    broker: Broker
    tell: Callable[[FleetEvent], None]

    def handle(self, line: Line, caller: Caller) -> None:
        operation = line.get("op")
        if operation == "send":
            self.authority.submit(_request(line), caller.finish)
        elif operation == "watch":
            self.control.watch(caller)
            caller.say(FleetEvent("notice", text="watching").record())
        elif operation == "online":
            caller.finish({"online": self.authority.ask(Engine.online)})
        elif operation == "clear":
            device = _text(line, "device")
            cleared = self.authority.ask(lambda engine: engine.clear(device))
            caller.finish({"ok": True, "cleared": cleared})
        elif operation == "rotate":
            device = _text(line, "device")
            body = self.authority.ask(lambda engine: engine.start_rotation(device))
            self.authority.submit(_order(line, "rotate", body), caller.finish)
        elif operation == "end":
            self.authority.end(_text(line, "device"), caller.finish)
        elif operation == "unlock":
            order = _order(line, "unlock", {"device": _text(line, "device")})
            self.authority.submit(order, caller.finish)
        elif operation == "codes":
            self.authority.codes.console.watch(caller.say, caller.gone)
        elif operation == "reload":
            device = _text(line, "device", "")
            self.authority.ask(lambda engine: engine.unload(device))
            self.authority.reload()
            text = self.broker.outgrown()
            if text:
                self.tell(FleetEvent("notice", text=text))
            caller.finish({"ok": True})
        elif operation in OPERATIONS:
            self.rollouts.handle(line, caller)
        else:
            raise HostError("control-malformed", "no such operation")


def _order(line: Line, command: str, args: dict[str, Any]) -> Request:
    """A command of the authority's own. Secrets in it never pass the control socket: they come out of the store."""
    request = _request(line | {"command": command, "app": AUTHORITY, "forge": ""})
    return replace(request, args=args)


def _request(line: Line) -> Request:
    args = line.get("args", {})
    if not isinstance(args, dict):
        raise HostError("control-malformed", "args is not an object")
    ttl, timeout = line.get("ttl", 30), line.get("timeout", 10)
    if type(ttl) is not int or not isinstance(timeout, (int, float)) or not 0 < timeout <= 600:
        raise HostError("control-malformed", "ttl or timeout is out of range")
    return Request(
        device=_text(line, "device"),
        command=_text(line, "command"),
        args=args,
        app=_text(line, "app", ""),
        ttl_s=ttl,
        timeout_s=float(timeout),
        forge=_text(line, "forge", ""),
    )


def _text(line: Line, key: str, default: Any = None) -> str:
    value = line.get(key, default)
    if not isinstance(value, str) or len(value) > 256:
        raise HostError("control-malformed", f"{key} is missing or no text")
    return value
