"""Change a device's policy and brokers over the link: it keeps the old ones until the new proved.

fleet.db holds the new record beside the old one while the device tries it, so that the authority
expects either. A call that is interrupted leaves both; the next one asks the device which it has.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from warden_client.protocol import strictcbor

from warden_host import names
from warden_host.broker import connection
from warden_host.devices import log_in
from warden_host.devices.stage import Report
from warden_host.devices.trial import Ask, complete, malformed, result
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.servers import Server
from warden_host.protocol import policy
from warden_host.store.store import Device, Store

Brokers = Sequence[list[object]]

_ENVELOPE = 128  # bytes that a command adds to its topic and to the record in it, at most
_DIGEST = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)


@dataclass(frozen=True)
class State:
    """id: of the last change that the device took. proved: of the last one that worked.

    digest: SHA-256 of the record that the device has.
    """

    id: int
    proved: int
    digest: bytes
    is_pending: bool


@dataclass(frozen=True)
class Change:
    """A change of one device's policy.

    ask: as in trial.py. followed(): makes a running `serve` follow fleet.db, once a change ended.
    """

    store: Store
    device: str
    ask: Ask
    followed: Callable[[], None]

    def state(self) -> State:
        """Return what the device says, and end in fleet.db a change that it has ended.

        Raises: what `ask` raises, not-applicable, timed-out, command-refused, bad-body.
        """
        return self._settled(_read(self.device, self.ask(None)))

    def make(
        self,
        values: dict[str, Any],
        report: Report,
        timeout_s: float,
        brokers: Brokers = (),
    ) -> None:
        """Give the device other values, and brokers, and wait until they proved themselves.

        values: of policy.LIMITS and policy.OUTBOX. brokers: as Server.record() gives them, the
        first one first; none: those that it has.
        Raises: as state(), bad-policy, bad-argument, policy-unproved.
        """
        before = self.state()
        known = self.store.device(self.device)
        if before.is_pending:
            raise HostError(
                "not-applicable",
                f"{self.device} tries another policy",
                "wait until it has ended; `warden policy show` shows it",
            )
        if before.digest != policy.policy_hash(known.policy):
            raise HostError(
                "not-applicable",
                f"{self.device} has another policy than this fleet knows",
                "provision it again, or restore fleet.db",
            )
        record = policy.changed(known.policy, **values)
        if record == known.policy and not brokers:
            raise HostError("bad-argument", f"{self.device} has these values already")
        topic = names.topic_base(known.type, known.device) + "/cmd/policy/fmt/cose"
        least = len(topic) + len(record) + _ENVELOPE
        if policy.max_message(record) < min(least, policy.max_message(known.policy)):
            raise HostError(
                "bad-argument",
                f"{self.device} could be given no other policy by messages this small",
                f"max_message is {least} at least for this device",
            )
        order: dict[str, Any] = {"id": before.id + 1}  # the record goes from fleet.db
        if brokers:
            order["brokers"] = list(brokers)
            most = policy.max_message(known.policy)
            if least + len(strictcbor.encode(order)) > most:
                raise HostError(
                    "bad-argument",
                    f"so many brokers are no message for {self.device}: it takes {most} bytes",
                    "name fewer, or give it a larger max_message first",
                )
        outbox = policy.connection(known.policy)["outbox"]
        if outbox and policy.max_message(record) < policy.max_message(known.policy):
            raise HostError(
                "bad-argument",
                f"{self.device} has an outbox: an event in it may be as large as max_message is",
                "provision it again for a smaller one",
            )
        self.store.start_policy_change(self.device, record)
        now = complete(
            self.device,
            self.ask,
            lambda answer: _read(self.device, answer),
            order,
            lambda _: f"{self.device} holds both, and tries the new one",
            report,
            timeout_s,
        )
        self._settled(now)
        if now.proved != now.id:
            raise HostError(
                "policy-unproved",
                f"{self.device} reached nothing under the new policy and went back to its old one",
            )

    def _settled(self, now: State) -> State:
        following = self.store.device(self.device).next_policy
        if following is not None and not now.is_pending:
            self.store.end_policy_change(
                self.device, proved=now.digest == policy.policy_hash(following)
            )
            self.followed()
        return now


def brokers(fleet: Fleet, known: Device, given: tuple[Server, ...]) -> Brokers:
    """Return the brokers of a change, for the way by which the device logs in.

    Raises bad-argument, config-malformed.
    """
    terms = connection.of_record(known.policy)
    return [server.record() for server in log_in.brokers(fleet, terms, given)]


def _read(device: str, answer: dict[str, Any]) -> State:
    found = result(device, answer, "is older than this command", "its policy")
    digest, pending = found.get("digest"), found.get("pending")
    # The control socket passes bytes on as hex digits.
    if not isinstance(digest, str) or not _DIGEST.match(digest) or not isinstance(pending, bool):
        raise malformed(device)
    return State(found["id"], found["proved"], bytes.fromhex(digest), pending)
