"""Hold a command for a device that sleeps, until it is awake or the command expires.

fleet.db has it too, so that a restart of the authority changes nothing. A command that left before
the restart, and whose reply did not come, is not sent again: it may have been executed.
"""

from collections.abc import Callable, Iterator
from typing import Any

from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Job, Wait
from warden_host.errors import HostError
from warden_host.store.held import HeldCommand

MOST = 16  # commands of one sleeper
_NEXT_S = 0.2  # pause between two looks whether the one before has its reply
_BUSY_S = 1.0
_ASK_S = 10.0  # a device answers no wake sooner

# Seals and sends the command, valid for so many seconds, and waits for its reply.
Send = Callable[[int], Job]


def keep(engine: Engine, one: HeldCommand, send: Send) -> None:
    """Hold a command, durably. Raises no-session where too many wait."""
    if len(engine.held.get(one.device, ())) >= MOST:
        raise HostError("no-session", f"{one.device} sleeps, and {MOST} commands wait already")
    engine.store.add_held_command(one)
    start(engine, one, send)


def start(engine: Engine, one: HeldCommand, send: Send) -> None:
    """Start the job that sends a command of fleet.db once its device is awake."""
    engine.held.setdefault(one.device, {})[one.number] = one.appid
    work = _send_when_awake(engine, one, send)
    engine.start(work, lambda result: end(engine, one, result))


def waiting(engine: Engine) -> Iterator[HeldCommand]:
    """Yield the commands of fleet.db that still wait; drop the others, and tell of them."""
    now = engine.clock().unix
    for one in engine.store.held_commands():
        if one.sent:
            text = f"{one.command} was sent before a restart: whether it was executed is not known"
            end(engine, one, HostError("timed-out", text))
        elif one.expires <= now:
            end(engine, one, _expired(one))
        else:
            yield one


def end(engine: Engine, one: HeldCommand, result: dict[str, Any] | HostError) -> None:
    """Drop a command that was answered, and tell of one that failed."""
    if isinstance(result, HostError) and result.code == "not-serving":
        return  # the authority stops: it waits in fleet.db
    engine.store.remove_held_command(one)
    if isinstance(result, HostError):
        engine.notify(
            FleetEvent("notice", one.device, one.appid, code=result.code, text=result.text)
        )


def _send_when_awake(engine: Engine, one: HeldCommand, send: Send) -> Job:
    """Send a command of engine.held once its device is awake, and return its answer.

    Raises timed-out; device-unknown if the device is gone or provisioned anew; as send() does.
    """
    device, clock, appid = one.device, engine.clock, one.appid
    deadline = clock().steady + one.expires - clock().unix
    asked = -_ASK_S
    try:
        while (left := deadline - clock().steady) > 0:
            session, now = engine.state(device).sessions.get(appid), clock()
            if session is None or not session.is_up or session.handshake_pending(now):
                yield Wait(_is_contact, deadline, device)
            elif not _is_next(engine.held[device], one.number):
                # One after the other: a device lets two wait, and refuses a third.
                yield Wait(None, min(deadline, now.steady + _NEXT_S))
            elif session.clock_error(now) >= left:
                if now.steady - asked >= _ASK_S:
                    asked = now.steady
                    engine.send(session.address, session.request_hello(now))
                yield Wait(_is_contact, deadline, device)
            else:
                if not engine.store.mark_held_sent(one):
                    text = f"{one.command} was for {device} as it was before"
                    raise HostError("device-unknown", text)
                answer = yield from send(max(1, int(left)))
                if answer["reply"].get("error") != "busy":
                    return answer
                yield Wait(None, clock().steady + _BUSY_S)
        raise _expired(one)
    finally:
        kept = engine.held[device]
        del kept[one.number]
        if not kept:
            del engine.held[device]


def _expired(one: HeldCommand) -> HostError:
    text = f"{one.command} expired: {one.device} did not wake up before"
    return HostError("timed-out", text)


def _is_next(kept: dict[int, str], number: int) -> bool:
    """Return whether no command that its application gave before waits for its reply."""
    appid = kept[number]
    return number == next(each for each, owner in kept.items() if owner == appid)


def _is_contact(fleet_event: FleetEvent) -> bool:
    return fleet_event.kind in ("came", "session")
