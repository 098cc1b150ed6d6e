"""Handle requests of the control socket about rollouts.

A release is verified here, on the caller's thread, before the engine gets it.
"""

from collections import Counter
from typing import Any

from warden_host import names
from warden_host.engine.engine import Engine
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.release.opened import OpenRelease, open_release
from warden_host.rollout import plan as rollout_plan
from warden_host.rollout.plan import FINAL, Plan
from warden_host.rollout.rollouts import Rollouts
from warden_host.service.authority import Authority
from warden_host.service.control import Caller, Handler, Line
from warden_host.store.store import Device, Store

_MAX_DEVICES = 100_000
_TRIAL_S = (10, 7 * 24 * 3600)
# Reasons to leave a device out.
OTHER_TYPE, PLAIN, ENDING = "of another type", "plain", "cut off or to be wiped"


class RolloutHandler:
    """Start, stop and watch rollouts of a running authority."""

    def __init__(self, fleet: Fleet, authority: Authority) -> None:
        self._fleet = fleet
        self._authority = authority
        self._rollouts: Rollouts = authority.ask(Rollouts)
        self.operations: dict[str, Handler] = {
            "rollout": self._rollout,
            "rollout-watch": self._watch,
            "rollout-stop": self._stop,
            "rollout-resume": self._resume,
        }

    def resume_all(self) -> None:
        """Continue the rollouts that are active in fleet.db."""
        with Store(self._fleet.database) as store:
            for record in store.rollouts(active=True):
                try:
                    self._start(record.id, open_release(self._fleet, store, record.release))
                except HostError as error:
                    store.set_rollout(record.id, "stopped", error.code, record.forgiven)

    def close(self) -> None:
        """Close all rollouts, after the engine's thread ended."""
        self._rollouts.close()

    def _rollout(self, line: Line, caller: Caller) -> None:
        number, left_out = self._create(line)
        caller.note("ok")  # most callers hang up before it ends
        if left_out:
            caller.send({"rollout": number, "left_out": left_out})
        self._show(number, caller)

    def _watch(self, line: Line, caller: Caller) -> None:
        self._show(_read_rollout(line), caller)

    def _stop(self, line: Line, caller: Caller) -> None:
        number = _read_rollout(line)
        self._run(lambda rollouts: rollouts.stop(number, "its owner stopped it"))
        caller.finish({"ok": True, "rollout": number})

    def _resume(self, line: Line, caller: Caller) -> None:
        number = _read_rollout(line)
        self._continue(number)
        caller.note("ok")
        self._show(number, caller)

    def _show(self, number: int, caller: Caller) -> None:
        """Send the caller each change of the rollout until it ends."""

        def watcher(message: Line, last: bool) -> None:
            if caller.gone.is_set():
                raise HostError("timed-out", "the caller is gone")
            (caller.finish if last else caller.send)(message)

        self._run(lambda rollouts: rollouts.watch(number, watcher))

    def _create(self, line: Line) -> tuple[int, dict[str, int]]:
        """Create a rollout, unless an active one has the same effect.

        Returns: its number, and reason → devices left out.
        """
        name = line.get("release")
        if not isinstance(name, str):
            raise HostError("control-malformed", "release is missing or no text")
        plan = _read_plan(line)
        with Store(self._fleet.database) as store:
            opened = open_release(self._fleet, store, name)
            try:
                known = store.release(name)
                chosen, left_out = _select_devices(store, line, known.type if known else None)
                devices = rollout_plan.shuffle(name, [one.device for one in chosen])
                devices = rollout_plan.first_share(
                    devices, _read_number(line, "percent", (1, 100), 100)
                )
                for other in store.rollouts(active=True):
                    theirs = {one.device for one in other.targets if one.state not in FINAL}
                    if other.release == name and set(devices) <= {t.device for t in other.targets}:
                        opened.close()
                        return other.id, left_out
                    if other.sequence > opened.sequence and theirs & set(devices):
                        raise HostError(
                            "rollout-running",
                            f"rollout {other.id} brings some of them {other.release}, a newer one",
                        )
                waves = rollout_plan.assign(plan.waves, devices)
                number = store.add_rollout(name, opened.sequence, plan.record(), waves)
            except BaseException:
                opened.close()
                raise
        self._start(number, opened)
        return number, left_out

    def _continue(self, number: int) -> None:
        """Continue a stopped rollout; the failures so far are forgiven."""
        with Store(self._fleet.database) as store:
            record = store.rollout(number)
            if record.state != "stopped":
                return
            opened = open_release(self._fleet, store, record.release)
            failed = sum(target.state in rollout_plan.FAILED for target in record.targets)
            store.set_rollout(number, "active", "", failed)
        self._start(number, opened)

    def _start(self, number: int, opened: OpenRelease) -> None:
        self._run(lambda rollouts: rollouts.start(number, opened))

    def _run(self, action: Any) -> Any:
        rollouts = self._rollouts

        def work(_: Engine) -> Any:
            return action(rollouts)

        return self._authority.ask(work, 60.0)


def _read_plan(line: Line) -> Plan:
    waves, failures = line.get("waves", "100%"), line.get("max_failures", "10%")
    if not isinstance(waves, str) or not isinstance(failures, str):
        raise HostError("control-malformed", "waves or max_failures is no text")
    web, pins = line.get("web", True), line.get("web_pins", [])
    if not isinstance(web, bool) or not isinstance(pins, list):
        raise HostError("control-malformed", "web or web_pins in another form")
    if not all(isinstance(pin, str) for pin in pins):
        raise HostError("control-malformed", "a pin that is no text")
    number, in_percent = rollout_plan.parse_failures(failures)
    return Plan(
        rollout_plan.parse_waves(waves),
        number,
        in_percent,
        _read_number(line, "at_once", (1, 1000), 20),
        _read_number(line, "trial_s", _TRIAL_S, 1800),
        web,
        rollout_plan.parse_pins(pins),
    )


def _select_devices(
    store: Store, line: Line, release_type: str | None
) -> tuple[list[Device], dict[str, int]]:
    """Return the devices that a request selects, and reason → devices left out.

    Raises: device-unknown, group-unknown, not-applicable, revoked, wrong-device.
    """
    named, type_, group = line.get("devices", []), line.get("type", ""), line.get("group", "")
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise HostError("control-malformed", "devices is no list of names")
    if not isinstance(type_, str) or not isinstance(group, str) or len(named) > _MAX_DEVICES:
        raise HostError("control-malformed", "type or group is no text, or too many devices")
    if sum(map(bool, (named, type_, group))) != 1:
        raise HostError("control-malformed", "either devices, or a type, or a group")
    if named:
        return _select_named(store, named, release_type), {}
    if type_:
        who, found = f"type {type_}", [one for one in store.devices() if one.type == type_]
        if found and release_type not in (None, type_):
            raise HostError(
                "wrong-device", f"the release is for type {release_type}: not for {who}"
            )
    else:
        who = f"group {names.check_id(group, 'group')}"
        found = [store.device(one) for one in store.group(group)]
    left_out = Counter(why for why in (_unfit_reason(one, release_type) for one in found) if why)
    fit = [one for one in found if not _unfit_reason(one, release_type)]
    if not fit:
        why = ": " + ", ".join(f"{count} {why}" for why, count in left_out.items())
        raise HostError(
            "device-unknown", f"no device of {who} is fit for it{why if left_out else ''}"
        )
    return fit, dict(left_out)


def _select_named(store: Store, devices: list[str], release_type: str | None) -> list[Device]:
    """Return the named devices. Raises as _select_devices(): none of them may be left out."""
    found = [store.device(names.check_id(one, "device ID")) for one in dict.fromkeys(devices)]
    codes = {PLAIN: "not-applicable", ENDING: "revoked", OTHER_TYPE: "wrong-device"}
    for one in found:
        why = _unfit_reason(one, release_type)
        if why:
            raise HostError(codes[why], f"{one.device} is {why}: this release does not fit it")
    return found


def _unfit_reason(device: Device, release_type: str | None) -> str:
    """Return why the release does not fit this device; "" if it can."""
    if device.ending is not None:
        return ENDING
    if release_type is not None and device.type != release_type:
        return OTHER_TYPE
    return "" if device.mode == "sealed" else PLAIN


def _read_rollout(line: Line) -> int:
    return _read_number(line, "rollout", (1, 1 << 53))


def _read_number(line: Line, key: str, bounds: tuple[int, int], default: int = 0) -> int:
    value = line.get(key, default)
    if type(value) is not int or not bounds[0] <= value <= bounds[1]:
        raise HostError("control-malformed", f"{key} is not between {bounds[0]} and {bounds[1]}")
    return value
