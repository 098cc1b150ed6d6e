"""Run what `warden serve` runs: the broker, the authority and the control socket.

They start in this order and stop in the reverse one. Tests and the demo use the same entry:
`with serving(fleet, announce) as service:` and then `service.authority.command(Request(…))`.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warden_host import names
from warden_host.alarms.rules import LOGIN_REFUSED
from warden_host.broker.backend import Broker
from warden_host.devices import app_tokens, enforcement, log_in
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.policies import follow
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import access_token
from warden_host.service import address_watch, clock_guard, crl_keeper, live_state, web_requests
from warden_host.service.address_watch import AddressWatch
from warden_host.service.alarm_service import DEVICE_KINDS, AlarmService
from warden_host.service.authority import Authority
from warden_host.service.background import notices
from warden_host.service.ban_handler import watching
from warden_host.service.broker_supervisor import BrokerSupervisor
from warden_host.service.certificate_keeper import CertificateKeeper
from warden_host.service.console import Console, WebAddress, console
from warden_host.service.control import (
    Caller,
    ControlServer,
    Handler,
    Line,
    check_path,
)
from warden_host.service.crl_keeper import CrlKeeper
from warden_host.service.display_queue import screen_thread
from warden_host.service.exported import Exported
from warden_host.service.housekeeping import housekeeping
from warden_host.service.introspection import TABLE, Introspection
from warden_host.service.live_requests import LiveRequests
from warden_host.service.login_watch import LoginWatch
from warden_host.service.operators import MOST_OF_A_USER, OPERATORS_MODE, AuditedSockets
from warden_host.service.reactor import reacting
from warden_host.service.request_fields import (
    authority_request,
    read_bytes,
    read_networks,
    read_policy,
    read_request,
    read_text,
)
from warden_host.service.rollout_handler import RolloutHandler
from warden_host.service.tally import Tally
from warden_host.service.token_sweeper import sweeping
from warden_host.service.web_acts import WebActs
from warden_host.service.web_pages import WebPages
from warden_host.service.wrong_logins import WrongLogins
from warden_host.store.store import Store

# In a flood the link's thread, the engine's and the guard's want the interpreter at once: with
# Python's 5 ms for each turn the broker's queue grows between two reads.
_SWITCH_S = 0.001


@dataclass(frozen=True)
class Service:
    """The parts of a fleet that is served."""

    broker: Broker
    authority: Authority
    supervisor: BrokerSupervisor
    address: AddressWatch
    tally: Tally
    console: Console | None
    announce: Callable[[FleetEvent], None]

    def check(self) -> None:
        """Start the broker again if it ended.

        Raises not-serving if the engine's thread ended, fleet-served for another host.

        Call it on the main thread.
        """
        self.supervisor.check()
        self.address.check()
        if self.console is not None:
            self.console.check()
        if not self.authority.alive():
            raise HostError("not-serving", "the authority's thread ended", "report this as a bug")


@contextlib.contextmanager
def serving(
    fleet: Fleet,
    announce: Callable[[FleetEvent], None] | None = None,
    accept_clock: bool = False,
    ca_passphrase: bytes | None = None,
    operators: Path | None = None,
    web: WebAddress | None = None,
) -> Iterator[Service]:
    """Serve a fleet while the context lasts.

    announce: called with each event, on a thread of its own.
    accept_clock: the owner confirms this host's time.
    ca_passphrase: of the key of the devices' CA, for the revocation list.
    operators: where to put the socket for operators; web: where browsers connect. None for none.
    Raises: clock-jumped, and what Broker and Authority raise.
    """
    sys.setswitchinterval(_SWITCH_S)
    handler = _Dispatcher()
    sockets = AuditedSockets(handler.handle, lambda code, text: announce_refused(code, text))
    tell = notices(lambda fleet_event: announce_to_all(fleet_event))
    control = ControlServer(fleet.control, sockets.handle_owner, tell=tell)
    with contextlib.ExitStack() as stack:
        alarms = AlarmService(fleet, lambda fleet_event: announce_to_all(fleet_event))
        tally = Tally()
        show = None if announce is None else stack.enter_context(screen_thread(announce))

        def on_notice(fleet_event: FleetEvent) -> None:
            alarms.on_notice(fleet_event)
            tally.on_notice(fleet_event)

        def show_to_all(fleet_event: FleetEvent) -> None:
            control.watchers.announce(fleet_event)
            if show is not None:
                show(fleet_event)

        def announce_to_all(fleet_event: FleetEvent) -> None:
            show_to_all(fleet_event)
            if fleet_event.kind == "notice":
                on_notice(fleet_event)

        def announce_refused(code: str, text: str) -> None:
            """Announce a refused call, which is no alarm; WrongLogins counts log-ins itself."""
            refused = FleetEvent("notice", code=code, text=text)
            show_to_all(refused)
            if code != LOGIN_REFUSED:
                tally.on_notice(refused)

        stack.enter_context(alarms)
        with Store(fleet.database) as store:
            clock_guard.check_start(store, accept_clock)
            for text in log_in.unmatched_terms(fleet, store):
                announce_to_all(FleetEvent("notice", text=text))
        address_watch.check_unserved(fleet)
        introspection = Introspection(fleet) if TABLE in fleet.document else None
        enforcement.enforce(fleet)
        certified = crl_keeper.is_needed(fleet)
        if certified:
            crl_keeper.prepare(fleet, ca_passphrase)
        with (
            Broker(fleet) as broker,
            Authority(fleet, announce_to_all, packet_limit=broker.packet_limit) as authority,
        ):
            handler.authority, handler.broker, broker.tell = authority, broker, tell
            handler.operations.update(LiveRequests(authority, control.watchers).operations)
            handler.announce = announce_to_all
            handler.fleet = fleet
            handler.introspection = introspection
            logins = LoginWatch(fleet, announce_to_all, on_notice)
            authority.ask(
                lambda engine: engine.watchers.add(alarms.on_device_event, *DEVICE_KINDS)
            )
            authority.ask(lambda engine: engine.watchers.add(tally.on_device_event))
            watch = stack.enter_context(AddressWatch(fleet, announce_to_all))
            broker.on_refused_login = watch.before(logins.refused)
            bans = watching(fleet, broker, watch.asks, announce_to_all, handler.operations)
            ban_watch = stack.enter_context(bans)
            stack.enter_context(sweeping(fleet, announce_to_all))
            stack.enter_context(housekeeping(fleet, announce_to_all))
            rollouts = RolloutHandler(fleet, authority)
            stack.callback(rollouts.close)
            rollouts.resume_all()
            handler.operations.update(rollouts.operations)
            if certified:
                keeper = CrlKeeper(fleet, broker.reload, tell, ca_passphrase)
                stack.callback(keeper.close)
                handler.keeper = keeper
                keeper.start()
            renewing = CertificateKeeper(
                fleet, authority, broker.reload, announce_to_all, ca_passphrase
            )
            stack.callback(renewing.join)
            authority.ask(lambda engine: engine.watchers.add(renewing.on_device_event, "session"))
            handler.renewing = renewing
            reactor = reacting(fleet, authority, broker, announce_to_all, handler.wake_keeper)
            handler.operations.update(stack.enter_context(reactor).operations)
            sockets.authority = authority
            if operators is not None:
                check_path(operators)
                others = ControlServer(
                    operators,
                    sockets.handle_operator,
                    OPERATORS_MODE,
                    control.watchers,
                    MOST_OF_A_USER,
                    tell=tell,
                )
                handler.others = stack.enter_context(others)
            if web is not None:
                handler.operations.update(web_requests.look_ups(fleet, authority.ask))
                handler.operations.update(WebPages(fleet, authority).operations)
                handler.operations.update(WebActs(fleet, authority).operations)
                wrong = WrongLogins(ban_watch, on_notice)
                handler.console = stack.enter_context(
                    console(
                        *(fleet, web, sockets, control.watchers, authority),
                        *(announce_to_all, wrong),
                    )
                )
            with control, renewing:
                handler.exported = Exported(fleet, announce_to_all)
                handler.exported.renew()
                supervisor = BrokerSupervisor(broker, announce_to_all)
                yield Service(
                    broker, authority, supervisor, watch, tally, handler.console, announce_to_all
                )


class _Dispatcher:
    """Dispatch requests of the control socket; the parts are set when they exist."""

    authority: Authority
    broker: Broker
    announce: Callable[[FleetEvent], None]
    fleet: Fleet
    exported: Exported | None = None
    keeper: CrlKeeper | None = None  # where devices log in by certificates
    renewing: CertificateKeeper
    introspection: Introspection | None = None
    others: ControlServer | None = None  # the operators' socket
    console: Console | None = None  # for browsers

    def __init__(self) -> None:
        self.operations: dict[str, Handler] = {
            "send": self._send,
            "online": self._online,
            "clear": self._clear,
            "dropped": self._dropped,
            "rotate": self._rotate,
            "end": self._end,
            "unlock": self._unlock,
            "clock": self._clock,
            "wifi": self._wifi,
            "policy": self._policy,
            "develop": self._develop,
            "token": self._token,
            "apps": self._apps,
            "codes": self._codes,
            "reload": self._reload,
            "reload_certificates": self._reload_certificates,
            "certificate_key": self._certificate_key,
            "operator": self._operator,
        }

    def handle(self, line: Line, caller: Caller) -> None:
        """Start the operation that a request names. Raises control-malformed."""
        operation = line.get("op")
        if not isinstance(operation, str) or operation not in self.operations:
            raise HostError("control-malformed", "no such operation")
        self.operations[operation](line, caller)

    def _send(self, line: Line, caller: Caller) -> None:
        request = read_request(line)
        if "token" in line:
            text = read_text(line, "token", limit=access_token.MAX_TOKEN)
            request = self._allowed(request, text)
        self.authority.submit(request, caller.finish)

    def _allowed(self, request: Request, token: str) -> Request:
        """Return the request as its token's application gives it, if the token allows it."""
        key = app_tokens.verifying_key(self.fleet)
        claims = None
        if self.introspection is not None and not access_token.is_signed(key, token):
            claims = self.introspection.claims(token)

        def check(engine: Engine) -> str:
            type_ = engine.state(request.device).device.type
            if claims is not None:
                return app_tokens.check_foreign(engine.store, claims, type_, request.command).appid
            return app_tokens.check_request(engine.store, key, token, type_, request.command).appid

        appid = self.authority.ask(check)
        if request.forge or request.app not in ("", appid):
            raise HostError("token-scope", f"the token speaks for application {appid} alone")
        return request._replace(app=appid)

    def _online(self, _: Line, caller: Caller) -> None:
        caller.finish(self.authority.ask(live_state.of_engine))

    def _clear(self, line: Line, caller: Caller) -> None:
        device = read_text(line, "device")
        cleared = self.authority.ask(lambda engine: engine.clear(device))
        caller.finish({"ok": True, "cleared": cleared})

    def _dropped(self, line: Line, caller: Caller) -> None:
        type_, device = names.parse_device_client(read_text(line, "client"))
        with Store(self.fleet.database) as store:
            ending = store.ending(device)
        if ending is not None and ending.revoked:
            self.authority.drop_messages(device)  # now: a flood of it may wait for the engine
        self.authority.ask(lambda engine: engine.presence.record_drop(engine.state(device), type_))
        caller.finish({"ok": True})

    def _rotate(self, line: Line, caller: Caller) -> None:
        device = read_text(line, "device")
        body = self.authority.ask(lambda engine: engine.start_rotation(device))
        self.authority.submit(authority_request(line, "rotate", body), caller.finish)

    def _end(self, line: Line, caller: Caller) -> None:
        self.authority.end_device(read_text(line, "device"), caller.finish)

    def _unlock(self, line: Line, caller: Caller) -> None:
        device = read_text(line, "device")
        # Where the authority is granted an application's `unlock`, the gate's has this name alone.
        granted = self.authority.ask(lambda engine: engine.state(device).authority_commands)
        command = "warden_unlock" if "unlock" in granted else "unlock"
        request = authority_request(line, command, {"device": device})
        self.authority.submit(request, caller.finish)

    def _clock(self, line: Line, caller: Caller) -> None:
        given = [key for key in ("order", "signature") if key in line]
        args: dict[str, Any] = {key: read_bytes(line[key]) for key in given}
        if args and not self.authority.ask(lambda engine: engine.clock().sealable):
            raise HostError("clock-jumped", "this host's clock is in doubt: it sets no other one")
        self.authority.submit(authority_request(line, "warden_clock", args), caller.finish)

    def _develop(self, line: Line, caller: Caller) -> None:
        args = {"device": read_text(line, "device"), "seconds": line.get("seconds")}
        self.authority.submit(authority_request(line, "develop", args), caller.finish)

    def _token(self, line: Line, caller: Caller) -> None:
        args = read_bytes(line.get("order", {}))
        if not isinstance(args, dict):
            raise HostError("control-malformed", "the order for a token has another form")
        self.authority.submit(authority_request(line, "token", args), caller.finish)

    def _apps(self, _: Line, caller: Caller) -> None:
        self.authority.reload()
        count = self.authority.ask(lambda _: self.authority.pending_apps.apply())
        caller.finish({"ok": True, "connected": count})

    def _wifi(self, line: Line, caller: Caller) -> None:
        args = read_networks(line["change"]) if "change" in line else {}
        self.authority.submit(authority_request(line, "wifi", args), caller.finish)

    def _policy(self, line: Line, caller: Caller) -> None:
        device = read_text(line, "device")
        self.authority.ask(lambda engine: follow(engine, device))
        if line.get("ended") is True:
            caller.finish({"ok": True, "notice": self.broker.restart_warning()})
            return
        args = self.authority.ask(lambda engine: read_policy(line, engine.state(device).device))
        self.authority.submit(authority_request(line, "policy", args), caller.finish)

    def _codes(self, _: Line, caller: Caller) -> None:
        self.authority.codes.console.watch(caller.send, caller.gone)
        caller.note("ok")

    def _operator(self, line: Line, caller: Caller) -> None:
        """End the open calls of a user whose roles changed: `watch` and `codes` last for ever."""
        if self.others is not None and type(line.get("uid")) is int:
            self.others.drop(lambda other: other.uid == line["uid"])
        if self.console is not None:
            self.console.end_operator(line)
        caller.finish({"ok": True})

    def _reload_certificates(self, _: Line, caller: Caller) -> None:
        self.broker.reload()
        caller.finish({"ok": True})

    def _certificate_key(self, line: Line, caller: Caller) -> None:
        args = {"certificate": "key"}
        self.authority.submit(authority_request(line, "rotate", args), caller.finish)

    def wake_keeper(self) -> None:
        """Have the revocation list renewed, where there is one."""
        if self.keeper is not None:
            self.keeper.wake()

    def _reload(self, line: Line, caller: Caller) -> None:
        device = read_text(line, "device", "")
        self.authority.floods.reset(device)
        self.authority.ask(lambda engine: engine.unload(device))
        self.authority.reload()
        if self.exported is not None:
            self.exported.renew()
        self.wake_keeper()
        self.renewing.wake()
        text = self.broker.restart_warning()
        if text:
            self.announce(FleetEvent("notice", text=text))
        caller.finish({"ok": True})
