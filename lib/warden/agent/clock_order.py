"""Authority command `warden_clock`: set the clock to a time that a release key signed.

The way back for a device that was taught a false time, and the way forward for one that does not
believe the authority's. Rules: docs/protocol.md, warden_clock. The signature is of this device and
this session, so no order counts twice: the device restarts behind the reply. One commit makes the
change; what replays are refused by goes on.
"""

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError
from ..vault import records
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .interface import Agent

_LABEL = const("warden clock")  # no signed manifest begins so, and no file of pins
_FORMAT = const(1)
_MOST = const(256)  # bytes of an order
_MOST_SIGNATURE = const(640)  # of the largest RSA key
_DRIFT = const(1)  # steps, as in gate/codes.py
_MOST_RANGES = const(4)


def run(agent: "Agent", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    """Set the clock, or only return what the device holds where args are empty.

    Raises as _apply(); what is refused is an incident too.
    """
    try:
        result = _apply(agent, args) if args else _state(agent)
    except PeerError as error:
        agent.report(error.code, command)
        raise
    finally:
        unload("warden.agent.clock_order")
    return result


def _state(agent: "Agent") -> "dict[str, Any]":
    authority = agent.authority()
    return {
        "session": b"" if authority is None else authority.sid,
        "mark": agent.vault.counter("time") - records.clock_shift(agent.vault),
        "now": agent.clock.now(),
        "floor": agent.clock.floor,
    }


def _apply(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    """Check an order whole, then commit it.

    PeerError bad-body, cbor-…, cose-…, tampered, wrong-device, not-allowed for a device without
    release keys; LinkError old-session, busy.
    """
    order: "Any" = args.get("order")
    signature: "Any" = args.get("signature")
    if len(args) != 2 or not _is_bytes(order, _MOST) or not _is_bytes(signature, _MOST_SIGNATURE):
        raise PeerError("bad-body")
    vault = agent.vault
    if "release" not in vault.names():
        raise PeerError("not-allowed")
    vendor, _, keys = records.load(vault, "release")
    _verify(order, signature, keys)
    unix_time = _read(agent, order, vendor)
    names = vault.names()
    for name in ("rotation", "network_new", "policy_new", "token_new"):
        if name in names:
            raise LinkError("busy")  # it has a deadline by the clock as it is
    agent.clock.keep_mark()  # of a welcome just before: it counts on the shift as it was
    # First: a cut behind it leaves a clock that the marks correct.
    agent.clock.rtc.set(unix_time)
    codes = _commit(agent, unix_time)
    agent.after_reply = _restart
    return {"time": unix_time, "codes": codes}


def _is_bytes(value: object, most: int) -> bool:
    return isinstance(value, bytes) and len(value) <= most


def _verify(order: bytes, signature: bytes, keys: "list[bytes]") -> None:
    try:
        from ..ota.update import run_transient
    except ImportError:
        raise PeerError("not-allowed")  # a board without the files of updates
    run_transient(_verify_now, order, signature, keys)


def _verify_now(order: bytes, signature: bytes, keys: "list[bytes]") -> None:
    from ..ota.update import verifiers
    from ..rotation.pins_file import verify_signature

    verify_signature(signature, verifiers(keys), order)


def _read(agent: "Agent", order: bytes, vendor: bytes) -> int:
    """Return the unix seconds of an order that is authentic, for this device and session."""
    fields: "Any" = cbor.decode(order)
    if not isinstance(fields, list) or len(fields) != 6 or fields[:2] != [_LABEL, _FORMAT]:
        raise PeerError("bad-body")
    if fields[2] != vendor or fields[3] != agent.names.device:
        raise PeerError("wrong-device")
    authority = agent.authority()
    if authority is None or fields[4] != authority.sid:
        raise LinkError("old-session")
    unix_time = fields[5]
    if type(unix_time) is not int or not agent.clock.floor <= unix_time < 1 << 32:
        raise PeerError("bad-body")
    return unix_time


def _commit(agent: "Agent", unix_time: int) -> int:
    """Commit the new mark; return when codes by time are taken again, unix seconds."""
    vault = agent.vault
    fields: "Any" = [_FORMAT, 0, [], []]
    if "clock" in vault.names():
        fields = records.load(vault, "clock")
    # The false time began with a step over the new one. A step from a mark that was later already
    # may have been true, and codes before it were used: it says nothing of what was false.
    steps = fields[3] + [fields[2][:2]] * bool(fields[2])
    begins = [begin for mark, begin in steps if mark <= unix_time < begin]
    # The counter is no later than any mark was, so there is room in it for every order.
    shift = vault.counter("time") - unix_time
    counters: "dict[str, int]" = {"time": unix_time} if shift < 0 else {}
    changes: "dict[str, bytes | None]" = {"clock": cbor.encode([_FORMAT, max(0, shift), [], []])}
    # Their times are of the clock as it was: a token is fetched anew, development mode ends.
    for name in ("token_now", "development"):
        if name in vault.names():
            changes[name] = None
    codes, ranges = _codes(agent, unix_time, min(begins) if begins else 0)
    if ranges is not None:
        changes["otp_clock"] = cbor.encode([1, ranges])
    vault.commit(changes, counters)
    agent.clock.shift = max(0, shift)  # a welcome may come before the restart
    return codes


def _codes(agent: "Agent", unix_time: int, begin: int) -> "tuple[int, Any]":
    """Return (when codes by time are taken again, the new `otp_clock` or None: as it was).

    begin: when the false time began, by itself; 0 where that is not known. Steps up to the new
    time are past. Those from `begin` to the last one used were shown while the time was false:
    they stay refused when their time really comes. Where `begin` is not known, that is all of
    them, and the counter is not set back.
    """
    vault, step_s = agent.vault, 0
    if "otp" in vault.names():
        step_s = records.load(vault, "otp")[2]
    if not step_s:
        return unix_time, None
    known: "Any" = {}
    if "otp_clock" in vault.names():
        known = records.load(vault, "otp_clock")[1]
    first = unix_time // step_s + _DRIFT + 1
    codes, changed = first * step_s, False
    for name in ("otp_step", "otp_duress"):
        shift, ranges = known.get(name, (0, []))
        next_step = vault.counter(name) - shift
        if next_step <= first:
            continue
        low = max(first, begin // step_s - _DRIFT) if begin else first
        if not first < low < next_step:
            codes = max(codes, next_step * step_s)
            continue
        ranges = ranges + [[low, next_step]]
        if len(ranges) > _MOST_RANGES:
            ranges = [[min([one[0] for one in ranges]), max([one[1] for one in ranges])]]
        known[name] = [shift + next_step - first, ranges]
        changed = True
    return codes, known if changed else None


async def _restart(agent: "Agent") -> None:
    from ..rotation.commands import restart

    await restart(agent)
