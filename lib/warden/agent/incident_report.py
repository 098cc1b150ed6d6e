"""Write incidents into the log and report them. Loaded when there are some, and unloaded again.

A record is on the flash before it is sent, so no number is ever used twice. The policy's budget
bounds the writes: where it is used up, incidents are counted in memory and reported at once
without a number, and become one record of each kind with the next write. docs/protocol.md, The
incident log.
"""

import gc

from micropython import const

from ..errors import StoreError, WardenError
from ..session.incident import REPEAT_MS
from ..session.incident_log import IncidentLog

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..session.incident import Incidents
    from .agent import Agent

_RECORD = "incidents"
# Opens the gate with the same writes to the flash as the right code: only a report tells of it.
_UNSEEN = "duress"
_WRITES = const(24)  # a day, where the policy says nothing
_DAY_S = const(86400)
_AGAIN_MS = const(30000)
_TRIES = const(3)  # sessions of one boot in which an authority that acknowledges nothing gets all
_LEAST_HEAP = const(10000)  # bytes: a commit that runs out of memory would close the vault


async def run(agent: "Agent", now_ms: int) -> None:
    """Write and send what is due, and set when to run again. PeerError when the link breaks."""
    incidents = agent.incidents
    incidents.due = None
    log = _load(agent, now_ms)
    linked = _linked(agent)
    for key in incidents.rows:
        if key[0] != _UNSEEN and (linked or key[1] != "link"):
            if not _save(agent, log, now_ms):
                log = _load(agent, now_ms)
            break
    if not linked:
        return
    if log is not None:
        await _send_log(agent, log, now_ms)
    for key, row in list(incidents.rows.items()):
        n, told = row[:2]
        if n > told:
            # A session can end while others are sent: what is left waits for the next one.
            if not await agent.send("incident", body(key, n - told)):
                return
            row[1] = n
        # Without a log, no write would ever make room for other kinds.
        elif log is None:
            incidents.rows.pop(key, None)
        if key[0] == _UNSEEN and row[0] == row[1]:
            incidents.rows.pop(key, None)
    if incidents.rows:
        _run_at(incidents, now_ms + REPEAT_MS if log is None else incidents.refill_ms)


def save_at_end(agent: "Agent") -> None:
    """Write what waits: the board is about to stop or restart."""
    now_ms = agent.now_ms()
    try:
        _save(agent, _load(agent, now_ms), now_ms)
    except WardenError as error:  # a wipe or a failing flash is why it ends
        agent.log(error.code, error.text)


def _run_at(incidents: "Incidents", ms: int) -> None:
    if incidents.due is None or ms < incidents.due:
        incidents.due = ms


def _load(agent: "Agent", now_ms: int) -> "IncidentLog | None":
    """Return the log, without what the authority has; None where nothing is to be kept."""
    incidents, vault, names = agent.incidents, agent.vault, agent.names
    terms = agent.policy.incidents
    writes = _WRITES if terms is None else terms["writes"]
    if not writes:
        return None
    try:
        log = IncidentLog(names.type, names.device, vault.get(_RECORD))
    except StoreError as error:
        agent.log(error.code, error.text)
        if incidents.left < 0:
            incidents.left = 0
            agent.report(error.code, "log")
        return None
    # A number that the log has not reached yet is of another log; the authority will name it.
    if incidents.acked > log.newest:
        incidents.acked = 0
    incidents.newest = log.newest
    if incidents.acked == log.newest:
        incidents.kept = False  # the authority said so before the log was read
    log.acknowledge(incidents.acked)
    most = max(1, writes // 4)  # at once
    gap_s = _DAY_S // max(1, writes - most)
    if incidents.left < 0:
        incidents.left, incidents.refill_ms = most, now_ms + gap_s * 1000
        if log.budget is not None:
            left, mark, boot = log.budget
            # By the proven time alone: the clock's own is any attacker's who cuts the power.
            left += max(0, agent.clock.least() - mark) // gap_s
            if vault.counter("boot") > boot:
                left = max(left, 1)  # a start takes a write in any case
            incidents.left = min(most, left)
    elif now_ms >= incidents.refill_ms:
        more = 1 + (now_ms - incidents.refill_ms) // (gap_s * 1000)
        incidents.left = min(most, incidents.left + more)
        incidents.refill_ms += more * gap_s * 1000
    return log


def _save(agent: "Agent", log: "IncidentLog | None", now_ms: int) -> bool:
    """Make records of the counts, by one commit, where the budget allows it.

    Return False where the flash has no room: the log is to be loaded again.
    """
    incidents = agent.incidents
    unseen: "dict[Any, list[int]]" = {}
    for key, row in incidents.rows.items():
        if key[0] == _UNSEEN:
            unseen[key] = row
    if log is None or incidents.left <= 0 or len(unseen) == len(incidents.rows):
        return True
    gc.collect()
    if _heap() < _LEAST_HEAP:
        return True
    incidents.left -= 1
    now = agent.clock.now()
    records: "list[list[Any]]" = []
    for (code, at, source), (n, told, first_ms) in incidents.rows.items():
        if code == _UNSEEN:
            continue
        records.append([now - (now_ms - first_ms) // 1000, code, at, source, n, told])
    log.budget = [incidents.left, agent.clock.least(), agent.vault.counter("boot")]
    try:
        agent.vault.put(_RECORD, log.append(records, now))
    except StoreError as error:
        if error.code != "vault-limit":
            raise
        # Nothing has changed: the counts stay for the next write.
        agent.log(error.code, error.text)
        return False
    incidents.rows, incidents.kept, incidents.newest = unseen, True, log.newest
    return True


def _heap() -> int:
    return gc.mem_free() if hasattr(gc, "mem_free") else _LEAST_HEAP


def _linked(agent: "Agent") -> bool:
    plain = agent.plain
    if plain is not None:
        return agent.client.connected and plain.ready
    return agent.authority() is not None


async def _send_log(agent: "Agent", log: IncidentLog, now_ms: int) -> None:
    """Send the records that the authority lacks, in their order."""
    incidents, session = agent.incidents, agent.authority()
    if session is not None and session.sid != incidents.sid:
        incidents.sid = session.sid
        if incidents.acked >= 0 or incidents.tries < _TRIES:
            incidents.tries += 1
            incidents.sent = 0
    if incidents.acked < 0 and now_ms < incidents.resend_ms:
        return _run_at(incidents, incidents.resend_ms)
    if incidents.acked >= 0 and now_ms >= incidents.resend_ms:
        incidents.sent = incidents.acked
    for number, report in log.messages(max(incidents.sent, incidents.acked)):
        if session is None and agent.plain is not None:
            from ..wire.names import JSON

            message = agent.plain.event("incident", {"body": report})
            await agent.post(agent.names.event("incident", JSON).encode(), message, 1)
            incidents.acknowledge(number, now_ms)
        elif not await agent.send("incident", report):
            return
        incidents.sent = number
    if incidents.kept and incidents.acked >= 0 and incidents.acked < log.newest:
        incidents.resend_ms = now_ms + _AGAIN_MS
        _run_at(incidents, incidents.resend_ms)


def body(key: "tuple[str, str, str]", n: int) -> "dict[str, Any]":
    """Return the body of a report: {"code", "n", "at"}, and "from" where the source is known."""
    fields: "dict[str, Any]" = {"code": key[0], "n": n, "at": key[1]}
    if key[2]:
        fields["from"] = key[2]
    return fields
