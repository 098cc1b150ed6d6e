"""Checks of the fleet's broker: its program, its settings, its accounts, and what it answers."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from warden_host import control_client
from warden_host.broker import backend, connection
from warden_host.broker.connection import BARE_PORT, Listener
from warden_host.doctor import probe
from warden_host.doctor.registry import Finding, check, serious, worth
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet

# The first one whose log names the client of a refused log-in.
NAMES_CLIENTS = (2, 0, 21)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ANSWER_S = 15.0
_START = "start `warden serve` again"


@dataclass(frozen=True)
class BrokerFacts:
    """serving: whether `warden serve` runs. records: the policies of the fleet's devices."""

    fleet: Fleet
    serving: bool
    records: list[bytes]

    @functools.cached_property
    def answer(self) -> probe.Answer:
        """What is at the listener with TLS."""
        broker = self.fleet.settings.broker
        return probe.look(self.fleet, broker.contact, broker.port, broker.contact)


@check("broker", "program", "the broker's program")
def program(_: BrokerFacts) -> Iterator[Finding]:
    found = backend.program_version(backend.find_program())
    if found < NAMES_CLIENTS:
        shown, wanted = (".".join(map(str, one)) for one in (found, NAMES_CLIENTS))
        yield worth(
            f"mosquitto {shown}: its log names no client before {wanted}, so a refused log-in's "
            "client is guessed",
            "`sudo apt install mosquitto` of a newer release; docs/brokers.md",
        )


@check("broker", "settings", "whether its settings are those that Warden writes")
def settings(facts: BrokerFacts) -> Iterator[Finding]:
    if facts.serving and backend.outdated_settings(facts.fleet, facts.records):
        yield serious(
            "the running broker has other settings than this fleet asks for: a file was changed "
            "by hand, or the fleet since its start",
            _START,
        )


@check("broker", "accounts", "whether an account may do more than Warden gives it")
def accounts(facts: BrokerFacts) -> Iterator[Finding]:
    for text in backend.weak_accounts(facts.fleet):
        yield serious(text, "restore the broker's accounts from a backup, and look who changed it")


@check("broker", "answers", "whether devices find the fleet's own broker")
def answers(facts: BrokerFacts) -> Iterator[Finding]:
    broker, answer = facts.fleet.settings.broker, facts.answer
    where = f"{broker.contact}:{broker.port}"
    if not answer.open:
        if facts.serving:
            yield serious(f"nothing answers at {where} ({answer.why})", _START)
        else:
            yield worth("the fleet is not served", "`warden serve`, or `warden service install`")
    elif answer.certificate is None:
        yield serious(
            f"what answers at {where} is no broker of this fleet: {answer.why}",
            "stop what listens there, or change broker.port in warden.toml",
        )
    elif pki.pin(answer.certificate) != pki.load_pins(facts.fleet.keys)[0]:
        yield serious(
            f"the broker at {where} shows another certificate than keys/server.crt", _START
        )


@check("broker", "anonymous", "whether it lets strangers in")
def anonymous(facts: BrokerFacts) -> Iterator[Finding]:
    if facts.answer.anonymous:
        yield serious("it lets a client in without a log-in", _START)


@check("broker", "bans", "whether addresses that guess passwords are kept away")
def bans(facts: BrokerFacts) -> Iterator[Finding]:
    if not facts.serving or facts.fleet.settings.broker.listen in _LOOPBACK:
        return
    last: dict[str, object] = {}
    for line in control_client.stream(facts.fleet.control, {"op": "bans"}, _ANSWER_S):
        last = line
    if last.get("enforced") is False:
        yield worth(
            f"addresses that guess passwords are noted and not blocked: {last.get('why')}",
            "`sudo warden service install --firewall`, or fail2ban: docs/bans.md",
        )


@check("broker", "tls-versions", "which versions of TLS it speaks")
def tls_versions(facts: BrokerFacts) -> Iterator[Finding]:
    broker = facts.fleet.settings.broker
    if facts.answer.open and probe.takes_old_tls(broker.contact, broker.port):
        yield serious("it speaks TLS 1.0 or 1.1", f"{_START}; its settings were changed by hand")


@check("broker", "plain-listener", "whether a broker without TLS answers on this host")
def plain_listener(facts: BrokerFacts) -> Iterator[Finding]:
    terms = connection.load(facts.fleet)
    ours = Listener.BARE in backend.wanted_listeners(facts.fleet, facts.records)
    if ours and terms.bare_port == BARE_PORT:
        return
    if probe.speaks_plain_mqtt("127.0.0.1", BARE_PORT):
        yield serious(
            f"another broker listens on this host's port {BARE_PORT} without TLS",
            "`sudo systemctl disable --now mosquitto`, if it is the package's own service",
        )
