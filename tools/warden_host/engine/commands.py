"""Send a command, or a forgery that shows what a device refuses: jobs of the engine.

No forgery seals two plaintexts under one counter: it changes a copy of a sealed message.
"""

import itertools
import secrets
from collections.abc import Callable, Generator
from typing import Any

from warden_client.protocol.handshake import command_topic
from warden_client.protocol.keyschedule import session_keys
from warden_client.protocol.plain import PlainPeer
from warden_client.protocol.sealing import Channel
from warden_client.protocol.session import CHANGE_S, Session

from warden_host import jsontext, names
from warden_host.engine import held, resend, restriction
from warden_host.engine.device_state import DeviceState
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Job, Wait
from warden_host.engine.request import FORGERIES, MAX_TTL_S, REPORT_PAUSE_S, Request
from warden_host.errors import HostError
from warden_host.names import AUTHORITY, Address, Topic
from warden_host.protocol import policy
from warden_host.store.held import HeldCommand

# A device answers a wake at most once in 10 s, and repeats a lost hello after 1, 3 and 9 s.
_NEW_SESSION_S = 30.0
_PACKET_OVERHEAD = 16  # fixed header, topic length, packet id
_numbers = itertools.count(secrets.randbelow(1 << 31))


def job(engine: Engine, request: Request) -> Job:
    """Return the job that sends a command or a forgery and waits for the result.

    Its result: see _wait_for_reply and _wait_for_refusal.
    """
    names.check_verb(request.command, "command")
    if request.command in names.PROTOCOL_COMMANDS:
        raise HostError("reserved-command", f"'{request.command}' belongs to the protocol")
    if not 0 < request.ttl_s <= MAX_TTL_S:
        raise HostError("bad-argument", f"the time to live is not between 1 and {MAX_TTL_S} s")
    if request.forge and request.forge not in FORGERIES:
        raise HostError(
            "bad-argument", "no such forgery", "known: " + ", ".join(sorted(FORGERIES))
        )
    command_job = _CommandJob(engine, request)
    if request.hold and not request.forge and command_job.is_asleep:
        return command_job.hold()
    if not request.forge:
        return command_job.genuine()
    script: Callable[[], Job] = {
        "wrong-id": command_job.wrong_id,
        "tamper": command_job.tamper,
        "replay": command_job.replay,
        "old-session": command_job.old_session,
        "plain": command_job.plain,
    }[request.forge]
    return script()


def restore_held(engine: Engine) -> None:
    """Hold what fleet.db has of commands for sleepers, from before a restart."""
    for one in held.waiting(engine):
        left = max(1, int(one.expires - engine.clock().unix))
        request = Request(one.device, one.command, one.args, one.appid, left, hold=True)
        try:
            held.start(engine, one, _CommandJob(engine, request, one.number).send_held)
        except HostError as error:
            held.end(engine, one, error)


class _CommandJob:
    """One request, and a job for each forgery."""

    def __init__(self, engine: Engine, request: Request, number: int | None = None) -> None:
        """number: of a command that was given before."""
        self._engine = engine
        self._request = request
        state = self._state
        known = state.sessions if state.sealed else state.plain
        exported = engine.exported()
        self._app = request.app or state.choose_app(request.command, exported)
        if self._app not in known:
            raise HostError(
                "app-unknown",
                f"{request.device} was not provisioned for application {self._app}",
                "it knows: " + ", ".join(sorted(known)),
            )
        if self._app in exported:
            raise HostError(
                "not-applicable", f"{self._app} is a party of its own: ask its program"
            )
        if not state.sealed and self._app == AUTHORITY and len(known) > 1:
            raise HostError(
                "not-applicable",
                f"{request.device} is plain and has applications of its own: it obeys those alone",
                "it knows: " + ", ".join(sorted(set(known) - {AUTHORITY})),
            )
        restriction.check_command(state, request.command, self._app)
        self.is_asleep = state.presence == "asleep"
        if self.is_asleep and not request.hold:
            until = max(0, int(state.asleep_until - engine.clock().unix))
            raise HostError("no-session", f"{request.device} sleeps for {until} s more")
        if state.gone and not state.stale_apps and not self.is_asleep:
            raise self._no_session(f"{request.device} left, and sent nothing since")
        self._number = next(_numbers) % (1 << 32) if number is None else number
        self._address = Address(state.device.type, request.device, self._app)

    @property
    def _state(self) -> DeviceState:
        """Return the device's state, which may be loaded anew after each wait."""
        return self._engine.state(self._request.device)

    def _find_session(self) -> Session | None:
        return self._state.sessions.get(self._app)

    # The scripts

    def hold(self) -> Job:
        """Answer at once, and send the command when the device is awake, before it expires.

        Its result: {…, "ok": True, "held": True, "expires": unix seconds}. Raises no-session.
        """
        request = self._request
        expires = self._engine.clock().unix + request.ttl_s
        one = HeldCommand(
            self._number, request.device, self._app, request.command, request.args, expires
        )
        held.keep(self._engine, one, self.send_held)
        return self._result() | {"ok": True, "held": True, "expires": expires}
        yield  # a job is a generator

    def send_held(self, left: int) -> Job:
        """Send the command in the session that is up, and wait. left: seconds of its life."""
        restriction.check_command(self._state, self._request.command, self._app)
        self._request = self._request._replace(ttl_s=left)
        self._publish(self._seal(self._state.sessions[self._app]))
        return (yield from self._wait_for_reply())

    def genuine(self) -> Job:
        """Send the command, and again where it may have got lost; wait for its reply."""
        if self._state.sealed:
            session = yield from self._wait_for_session()
            data = self._seal(session)
            self._publish(data)
            send = lambda: self._engine.publish(self._topic(), self._app, data)  # noqa: E731
            again = resend.of_sealed(session, self._find_session, send)
            return (yield from self._wait_for_reply(again))
        request, peer = self._request, self._state.plain[self._app]
        self._publish(peer.command(request.command, self._number, request.args))
        return (yield from self._wait_for_reply())

    def wrong_id(self) -> Job:
        """Send a well-formed message of an application that the device doesn't know."""
        request = self._request
        if self._state.sealed:
            yield from self._wait_for_session()
            keys = session_keys(self._address, secrets.token_bytes(32), b"", b"")
            stranger = Channel(secrets.token_bytes(8), keys)
            data = stranger.seal(self._topic(), self._number, request.ttl_s, request.args)
        else:
            data = self._state.plain[self._app].command(
                request.command, self._number, request.args, uid=secrets.token_bytes(32)
            )
        self._publish(data)
        return (yield from self._wait_for_refusal())

    def tamper(self) -> Job:
        """Send a message with one bit of its ciphertext flipped, then the message itself.

        The reply to the second shows that only the bit made the difference.
        """
        session = yield from self._wait_for_sealed_session()
        data = self._seal(session)
        self._publish(data[:-1] + bytes([data[-1] ^ 1]))
        verdict: dict[str, Any] = yield from self._wait_for_refusal()
        self._publish(data, forged=False)
        answer = yield from self._wait_for_reply()
        return verdict | {"original": answer["reply"]}

    def replay(self) -> Job:
        """Send the command, an ack, so that a copy is no QoS 1 duplicate, and the copy."""
        session = yield from self._wait_for_sealed_session()
        data = self._seal(session)
        self._publish(data, forged=False)
        answer = yield from self._wait_for_reply()
        self._publish(session.seal_ack(), "ack")
        self._publish(data)
        verdict: dict[str, Any] = yield from self._wait_for_refusal()
        return verdict | {"original": answer["reply"]}

    def old_session(self) -> Job:
        """Send a message sealed for the previous session; start a new session if there is none."""
        session = yield from self._wait_for_sealed_session()
        while session.previous is None:  # more than once where the state is loaded anew
            self._engine.send(session.address, session.request_hello(self._engine.clock()))
            following = yield from self._next_session(_NEW_SESSION_S)
            if following is None:
                raise HostError(
                    "timed-out",
                    "the device did not start a new session",
                    self._hint("try again; if it stays so, restart the device"),
                )
            session = following
        data = session.previous.seal(
            self._topic(), self._number, self._request.ttl_s, self._request.args
        )
        self._publish(data)
        return (yield from self._wait_for_refusal())

    def plain(self) -> Job:
        """Send the command as plain JSON to a device whose policy says sealed."""
        request = self._request
        if not self._state.sealed:
            raise HostError("not-applicable", f"{request.device} takes plain commands")
        yield from self._wait_for_session()
        uid = next(pair.uid for pair in self._state.device.pairs if pair.appid == self._app)
        data = PlainPeer(self._address, uid).command(request.command, self._number, request.args)
        self._publish(data, fmt=names.PLAIN)
        return (yield from self._wait_for_refusal())

    # Shared steps

    def _wait_for_session(self) -> Generator[Wait, FleetEvent | None, Session]:
        session = self._find_session()
        # After each wait it may be replaced, or removed.
        if session is not None and session.handshake_pending(self._engine.clock()):
            yield from self._next_session(min(CHANGE_S, self._request.timeout_s))
            session = self._find_session()
        if session is not None and not session.is_up:
            yield from self._next_session(self._request.timeout_s)
            session = self._find_session()
        if session is None or not session.is_up:
            raise self._no_session(f"{self._request.device} has no session with {self._app}")
        now = self._engine.clock()
        if session.clock_error(now) < self._request.ttl_s:
            return session
        # It slept for long in this session, and may take the command for an expired one.
        self._engine.send(session.address, session.request_hello(now))
        session = yield from self._next_session(self._request.timeout_s)
        if session is None:
            raise self._no_session(f"{self._request.device} began no new session")
        return session

    def _next_session(self, seconds: float) -> Generator[Wait, FleetEvent | None, Session | None]:
        """Wait for a new session; return None where there is none in so many seconds.

        Raises as check_command(): the device may have been cut off meanwhile.
        """
        session_event = yield self._until(self._is_session, seconds)
        restriction.check_command(self._state, self._request.command, self._app)
        return None if session_event is None else self._find_session()

    def _no_session(self, text: str) -> HostError:
        return HostError("no-session", text, self._hint(self._start_hint))

    @property
    def _start_hint(self) -> str:
        device = self._state.device
        if device.board == names.SIMULATED:
            return f"is it running? `warden run {device.device}`"
        return (
            "is it switched on, and its network there? "
            f"`warden show {device.device}` says when it was last seen"
        )

    def _hint(self, otherwise: str) -> str:
        """Return a hint for a device without a session. otherwise: if the cause is unknown."""
        if not self._state.stale_apps:
            return otherwise
        return (
            "its hellos are refused as stale-hello, not newer than one that it proved: restart "
            "the device; if its flash was put back, " + HostError("stale-hello").hint
        )

    def _wait_for_sealed_session(self) -> Generator[Wait, FleetEvent | None, Session]:
        if not self._state.sealed:
            raise HostError(
                "not-applicable",
                f"{self._request.device} is in plain mode, which has no such protection",
                "a sealed device shows this forgery",
            )
        return (yield from self._wait_for_session())

    def _wait_for_reply(self, again: Callable[[], bool] = resend.never) -> Job:
        """Return {"device", "app", "command", "id", "ok", "reply"}, or raise timed-out.

        again: as resend.wait_for_reply() calls it.
        """
        request, clock = self._request, self._engine.clock
        reply = yield from resend.wait_for_reply(
            self._is_reply, clock, again, request.timeout_s, request.ttl_s, request.device
        )
        if reply is None:
            unknown = (
                "it may have refused the command: `warden watch` shows its incidents; if it shows "
                "none, restart the device: it may hold no session"
            )
            raise HostError(
                "timed-out",
                f"{self._request.device} gave no reply in {self._request.timeout_s:g} s",
                self._hint(self._start_hint if self._state.gone else unknown),
            )
        answer = self._result() | {"ok": reply.body.get("ok") is True, "reply": reply.body}
        if reply.body.get("error") == "not-allowed":
            pair = next(pair for pair in self._state.device.pairs if pair.appid == self._app)
            answer["allowed"] = list(pair.commands)
        return answer

    def _wait_for_refusal(self) -> Job:
        """Return {…, "ok", "forge", "verdict"}: ok if refused with the expected code."""
        request = self._request
        expected, wait_s = FORGERIES[request.forge], request.timeout_s + REPORT_PAUSE_S

        def answers(fleet_event: FleetEvent) -> bool:
            mine = fleet_event.kind == "incident" and fleet_event.device == request.device
            return self._is_reply(fleet_event) or (mine and fleet_event.code == expected)

        fleet_event = yield self._until(answers, wait_s)
        if fleet_event is None:
            raise HostError(
                "timed-out",
                f"{request.device} reported no '{expected}' in {wait_s:g} s",
                self._hint(
                    "does its session with the authority stand? `warden watch` shows its incidents"
                ),
            )
        refused = fleet_event.kind == "incident"
        if refused:
            code = fleet_event.code
        else:
            error = fleet_event.body.get("error")
            code = "obeyed" if "error" not in fleet_event.body else jsontext.slug(error)
        return self._result() | {"ok": refused, "forge": request.forge, "verdict": code}

    def _result(self) -> dict[str, Any]:
        device, command = self._request.device, self._request.command
        return {"device": device, "app": self._app, "command": command, "id": self._number}

    def _seal(self, session: Session) -> bytes:
        request = self._request
        now = self._engine.clock()
        try:
            return session.seal(request.command, self._number, request.args, request.ttl_s, now)
        except HostError as error:
            if error.code == "counter-exhausted":  # a new hello follows
                self._engine.send(session.address, session.request_hello(now))
            raise

    def _publish(self, data: bytes, command: str = "", fmt: str = "", forged: bool = True) -> None:
        """Publish a message to the device, and announce it unless it is an ack.

        forged: whether it is the forgery of a request for one, and not the genuine message there.
        Raises mqtt-too-large: at such a packet the device or the broker ends its connection.
        """
        topic = self._topic(fmt, command)
        size = len(data) + len(str(topic)) + _PACKET_OVERHEAD
        limit = policy.max_message(self._state.device.policy)
        if size > limit:
            raise HostError("mqtt-too-large", f"the device takes packets of {limit} bytes at most")
        limit = self._engine.packet_limit
        if size > limit:
            raise HostError(
                "mqtt-too-large",
                f"the running broker takes packets of {limit} bytes at most, and the device more",
                "start `warden serve` again",
            )
        if not command:
            self._register(forged)
        self._engine.publish(topic, self._app, data)

    def _register(self, forged: bool) -> None:
        request = self._request
        # The authority's own commands carry secrets.
        body = {} if names.is_authority_command(request.command) else request.args
        text = f"forgery: {request.forge}" if request.forge and forged else ""
        device, command, number = request.device, request.command, self._number
        told = FleetEvent("command", device, self._app, command, id=number, body=body, text=text)
        self._engine.register_command(told, request.quiet)

    def _topic(self, fmt: str = "", command: str = "") -> Topic:
        command = command or self._request.command
        if fmt != names.PLAIN and self._state.sealed:
            return command_topic(self._address, command)
        return Topic(self._address.type, self._address.device, "cmd", command, names.PLAIN)

    def _until(self, matches: Callable[[FleetEvent], bool], seconds: float) -> Wait:
        return Wait(matches, self._engine.clock().steady + seconds, self._request.device)

    def _is_session(self, fleet_event: FleetEvent) -> bool:
        session = ("session", self._request.device, self._app)
        return (fleet_event.kind, fleet_event.device, fleet_event.app) == session

    def _is_reply(self, fleet_event: FleetEvent) -> bool:
        mine = (fleet_event.kind, fleet_event.device) == ("reply", self._request.device)
        return mine and fleet_event.id == self._number
