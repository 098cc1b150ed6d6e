"""Do what the console offers beside the operations of other sockets: groups, codes, alarms."""

from typing import Any

from warden_host import names
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.service import alarm_service
from warden_host.service.authority import Authority
from warden_host.service.control import Caller, Handler, Line
from warden_host.service.request_fields import read_text
from warden_host.store.store import Store

_MOST_MEMBERS = 200  # that one request adds or removes


class WebActs:
    """The operations; service/operators.py has the role that each takes."""

    def __init__(self, fleet: Fleet, authority: Authority) -> None:
        self._fleet = fleet
        self._authority = authority
        self.operations: dict[str, Handler] = {
            "otp": self._otp,
            "code": self._code,
            "group": self._change_group,
            "alarms-test": self._test_alarms,
        }

    def _otp(self, line: Line, caller: Caller) -> None:
        """Answer with a device's gate and the state of its latest code, never with the code."""
        device = names.check_id(read_text(line, "device"), "device ID")
        standing = self._authority.ask(lambda _: self._authority.codes.standing(device))
        with Store(self._fleet.database) as store:
            gate = policy.gate(store.device(device).policy)
            ways = sorted({one.way for one in store.contacts(device) if one.purpose == "code"})
        found: dict[str, Any] = {"gate": gate, "ways": ways or ["console"], "code": None}
        if standing is not None:
            code, left = standing
            found["code"] = {
                "made": code.made,
                "validity": code.validity,
                "left": max(0, left),
                "tries": code.tries,
                "used": code.digest is None,
                "earlier": len(code.past),
            }
        caller.finish(found)

    def _code(self, line: Line, caller: Caller) -> None:
        """Answer with the code of one device that is valid now. Raises not-applicable."""
        device = names.check_id(read_text(line, "device"), "device ID")
        with Store(self._fleet.database) as store:
            store.device(device)
        found = self._authority.codes.console.valid_code(device)
        if found is None:
            raise HostError(
                "not-applicable",
                f"no code of {device} is valid here",
                "it asks for one at its start; where its owner gets codes by mail or webhook, "
                "they are seen there alone",
            )
        caller.finish(found)

    def _change_group(self, line: Line, caller: Caller) -> None:
        """Add devices to a group, or remove them: all of them or none."""
        name = names.check_id(read_text(line, "group"), "group")
        given, remove = line.get("devices"), line.get("remove", False)
        if not isinstance(given, list) or not 0 < len(given) <= _MOST_MEMBERS:
            raise HostError("control-malformed", f"give 1 to {_MOST_MEMBERS} devices")
        if not all(isinstance(one, str) for one in given) or not isinstance(remove, bool):
            raise HostError("control-malformed", "devices or remove has another form")
        devices = [names.check_id(one, "device ID") for one in dict.fromkeys(given)]
        with Store(self._fleet.database) as store:
            (store.remove_from_group if remove else store.add_to_group)(name, devices)
            count = len(store.groups().get(name, ()))
        caller.finish({"ok": True, "group": name, "count": count})

    def _test_alarms(self, _: Line, caller: Caller) -> None:
        """Send a test alarm to all who get alarms. Raises not-applicable."""
        results = [one._asdict() for one in alarm_service.send_test(self._fleet)]
        failed = any(one["why"] for one in results)
        caller.finish({"ok": not failed, "verdict": "not-delivered", "results": results})
