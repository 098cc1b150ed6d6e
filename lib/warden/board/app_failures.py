"""Count the failures of the application, report them, and hold back one that keeps failing.

    count(open_board, at)  board/load.py: the application raised, or its import returned
    hold(vault, ended)     board/load.py, before each start of the application
    run(agent)             agent/build.py, where failures are recorded: report them
    confirm(vault)         agent/leaving.py: the application ends this start as planned

An application fails when its main module raises or returns, when the watchdog ends it, and when it
resets the board by itself before the start is confirmed: by a session, or by a minute of the
agent. Flash keeps that a start was not confirmed, only where a reset came before it: the first of
such resets in a row is not counted. After three failures in a row the board starts without it: the
agent alone (agent/recovery.py) accepts an update and the authority's commands, for 5 minutes at
first, then twice as long after each further failure, up to 80 minutes. After that the application
gets one start. A run of 5 minutes ends the row. A trial of an update has its own limit
(ota/boot.py): its failures are reported, and not counted in the row.

record `failures`   CBOR [row, unreported, at, turn]
row                 failures in a row, at most 255
unreported          failures that the authority was not told of, at most 255
at                  of the last one: the exception's class, `ended`, `watchdog` or `reset`
turn                after three failures: what the next start runs; or that this start is not
                    confirmed, see below
"""

import asyncio
import gc
import sys

from micropython import const

from .. import unload
from ..errors import PeerError, StoreError
from ..wire import cbor
from ..wire.names import is_word

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..agent.interface import Agent
    from ..vault import Vault

_RECORD = const("failures")
_MOST = const(3)  # in a row, before the application is held back
_LIMIT = const(255)
_PAUSE_MS = const(300000)
_DOUBLINGS = const(4)
_GOOD_MS = const(300000)
_CONFIRM_MS = const(60000)
_REPORT_MS = const(1000)
_LOOK_MS = const(10000)

# The numbers are on flash: a retired one is never used again.
_HELD = const(0)  # the agent alone
_NEXT = const(1)  # the application
_TRIED = const(2)  # the application ran in the last start
_RUNS = const(3)  # the application runs, before three failures, and nothing confirmed the start
_CONFIRMED = const(4)  # as _TRIED, and a session was up: only a hang is still a failure

# For how long this start holds the application back, 0 where it does not.
_pause_ms = 0


def count(open_board: "Callable[[], tuple[Any, Vault]]", at: str) -> None:
    """Record that the application ended; its modules and tasks are let go of first.

    open_board: of board/load.py
    at: the name of the exception's class, or `ended`
    Raises: StoreError, UsageError no-board: there is no vault to record it in.
    """
    asyncio.new_event_loop()
    for name in [name for name in sys.modules if _is_of_app(name)]:
        del sys.modules[name]
    gc.collect()
    vault = open_board()[1]
    at = at.lower()
    result = _boot_result()
    fields = _load(vault)
    _count(fields, at if is_word(at) else "exception", result is not None and result.trial)
    _store(vault, fields)
    vault.close()


def _is_of_app(name: str) -> bool:
    return getattr(sys.modules[name], "__file__", "").startswith("/app/")


def hold(vault: "Vault", ended: str) -> bool:
    """Return whether this start is to go without the application.

    ended: how the last start ended, of hal/reset_cause.py
    """
    global _pause_ms
    fields, result = _load(vault), _boot_result()
    hung = ended == "watchdog"
    failed = hung and (fields[0] < _MOST or fields[3] == _CONFIRMED)
    if failed or (ended and fields[3] in (_TRIED, _RUNS)):
        # A slot that was given up at this start was on trial before it.
        trial = result is not None and (result.trial or result.failed)
        _count(fields, ended, trial)
        failed = True
    goes_on = fields[0] < _MOST or (result is not None and result.trial)
    unconfirmed = goes_on and ended == "reset" and fields[3] == _HELD
    if unconfirmed:
        fields[3] = _RUNS
    if failed or unconfirmed:
        _store(vault, fields)
    if goes_on:
        return False
    if fields[3]:
        # Recorded before the application starts, so that a failure which nothing counts, such as
        # a power cut, is no way around the pause.
        fields[3] = _TRIED if fields[3] == _NEXT else _HELD
        if _store(vault, fields) and fields[3]:
            return False
    _pause_ms = _PAUSE_MS << min(fields[0] - _MOST, _DOUBLINGS)
    return True


async def run(agent: "Agent") -> bool:
    """Confirm the start, report the failures; then end their row, or the application's pause."""
    fields = _load(agent.vault)
    end = agent.now_ms() + (_pause_ms or _GOOD_MS)
    if fields[3] in (_TRIED, _RUNS):
        try:
            await asyncio.wait_for_ms(_confirm_in_session(agent), _CONFIRM_MS)
        except asyncio.TimeoutError:
            confirm(agent.vault)
        fields = _load(agent.vault)
    while fields[1] or end:
        await asyncio.sleep_ms(_REPORT_MS if fields[1] else _LOOK_MS)
        if fields[1] and await _send(agent, fields):
            fields[1] = 0
            _store(agent.vault, fields)
        if end and agent.now_ms() >= end:
            if not _pause_ms:
                fields[0] = fields[3] = end = 0
                _store(agent.vault, fields)
            elif agent.ota is None or not agent.ota.busy():
                fields[3] = _NEXT
                _store(agent.vault, fields)
                await agent.client.disconnect()
                agent.restart()
    unload("warden.board.app_failures")
    return True


def confirm(vault: "Vault") -> None:
    """Record that a reset of the board is no failure from now on; also before a planned end."""
    fields = _load(vault)
    if fields[3] in (_TRIED, _RUNS):
        fields[3] = _CONFIRMED if fields[3] == _TRIED else _HELD
        _store(vault, fields)


async def _confirm_in_session(agent: "Agent") -> None:
    """Confirm the start as soon as a session is up.

    It waits for the session before the application does: asyncio lets it go on first, so it has
    recorded that before an application that sleeps between two messages resets the board.
    """
    await agent.session_up.wait()
    confirm(agent.vault)


async def _send(agent: "Agent", fields: "list[Any]") -> bool:
    """Report what was not reported yet; return whether it was sent."""
    _, number, at, _ = fields
    plain = agent.plain
    if plain is not None and not (agent.client.connected and plain.ready):
        return False
    try:
        if not await agent.send("incident", {"code": "app-failed", "n": number, "at": at}):
            return False
    except PeerError:
        return False  # the connection broke
    agent.log("app-failed", "%d times, at last: %s" % (number, at))
    return True


def _count(fields: "list[Any]", at: str, trial: bool) -> None:
    if not trial:
        fields[0] = min(fields[0] + 1, _LIMIT)
    fields[1:] = [min(fields[1] + 1, _LIMIT), at, _HELD]


def _boot_result() -> "Any":
    """Return the result of the board's start, None on a board without slots."""
    if "warden.ota.result" not in sys.modules:
        return None
    from ..ota.result import boot_result

    return boot_result


def _load(vault: "Vault") -> "list[Any]":
    data = vault.get(_RECORD)
    fields: "Any" = [0, 0, "", _HELD] if data is None else cbor.decode(data)
    return list(fields)


def _store(vault: "Vault", fields: "list[Any]") -> bool:
    """Commit the record; return False where the flash is full."""
    try:
        if fields[0] or fields[1] or fields[3]:
            vault.put(_RECORD, cbor.encode(fields))
        else:
            vault.delete(_RECORD)
    except StoreError as error:
        if error.code != "vault-limit":
            raise
        return False
    return True
