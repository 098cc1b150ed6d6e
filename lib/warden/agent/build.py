"""Build an agent from its vault and start it. agent/device.py unloads this module afterwards."""

import gc
import sys

from micropython import const

from ..net.backoff import Backoff
from ..net.clock import Clock
from ..net.mqtt import Client
from ..net.verifier import TrustAnchors
from ..policy.policy import Policy
from ..session.inbox import Inbox
from ..vault import records
from ..wire.names import JSON, Topics
from .agent import Agent

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..net.clock import Rtc
    from ..vault import Vault
    from ..vault.records import App

_PAUSE_MS = const(100)  # behind a refused message
_LOCK_MS = const(60000)  # for which an application that floods is ignored


class _Settings:
    """The policy's values, without the code that checked them."""


def build(
    vault: "Vault",
    rtc: "Rtc",
    network: "Any",
    floor: int,
    log: "Callable[[str, str], None]",
    on_fatal: "Callable[[], None] | None",
) -> "tuple[Agent, list[App]]":
    """Return the agent that an open vault describes, and its applications for start().

    Nothing is connected or committed yet. floor: unix seconds that the clock is at least set to.
    The other parameters are described at Agent.
    """
    names = Topics(*records.load(vault, "identity"))
    policy = _settings(records.load_raw(vault, "policy"))
    clock = Clock(rtc, vault, floor, records.clock_shift(vault))
    clock.start()
    trust = _trust(policy, vault)
    server = tuple(records.load(vault, "broker")[:2])
    agent = Agent(vault, names, policy, clock, trust, server, network, log, on_fatal)
    _choose_brokers(agent)
    if policy.connection is not None and not policy.connection["tls"]:
        agent.link_type = _open_link(network)
    apps = records.load_apps(vault)
    agent.alone = len(apps) == 1
    for app in apps:
        agent.commands.grant(app.appid, app.commands)
    _make_client(agent)
    return agent, apps


def _open_link(network: "Any") -> "Any":
    """Return the link without TLS: over a serial line where that is the network, else over TCP."""
    if hasattr(network, "port"):
        from ..net import serial

        return serial.link_type(network.port)
    from ..net.bare import BareLink

    return BareLink


def use_policy(
    agent: Agent, record: "bytes | None", brokers: "list[Any] | None" = None
) -> "dict[str, bytes | None]":
    """Replace the policy of an agent that is not connected, and its brokers; return {}.

    record: None where the policy in use has proved itself: its outbox takes the place of the
    present one, and the changes of the vault that belong to it are returned.
    brokers: as in the record `brokers`; None: those of the vault.
    UsageError, as Policy raises it; MemoryError for an outbox, with nothing changed.
    """
    if record is None:
        return _replace_outbox(agent)
    policy = _settings(record)
    agent.inbox.limit += policy.max_message - agent.policy.max_message
    agent.policy = policy
    agent.backoff = Backoff(policy.backoff_min_ms, policy.backoff_max_ms)
    agent.server = tuple(records.load(agent.vault, "broker")[:2])
    _choose_brokers(agent, brokers)
    _react(agent.inbox, policy)
    for session in agent.sessions:
        session.policy_digest = policy.digest
    if agent.ota is not None:
        agent.ota.drop()  # its chunks were measured by the old limit
    _make_client(agent)
    gc.collect()  # the old client's buffer
    return {}


def _replace_outbox(agent: Agent) -> "dict[str, bytes | None]":
    """Make, change or end the outbox of a running agent as its policy says; see use_policy()."""
    policy, outbox = agent.policy, agent.delivery
    terms = policy.connection
    if terms is None or not terms["outbox"]:
        agent.delivery = agent.inbox.delivery = None
        return {} if outbox is None else outbox.end()
    if outbox is not None:
        return outbox.use_terms(terms, policy.max_message)
    from .delivery import Delivery

    agent.delivery = agent.inbox.delivery = Delivery(agent, records.load_apps(agent.vault), terms)
    agent.run([agent.delivery.run()])
    return {}


def _choose_brokers(agent: Agent, listed: "list[Any] | None" = None) -> None:
    """Let a device with several brokers choose among them. listed: None for those of the vault."""
    if listed is None and "brokers" in agent.vault.names():
        listed = records.load(agent.vault, "brokers")[1]
    if listed is not None:
        from ..net.brokers import Brokers

        policy = agent.policy
        several = Brokers(listed, policy.backoff_min_ms, policy.backoff_max_ms)
        agent.backoff, agent.server = several, several.server


def _settings(record: bytes) -> "Any":
    policy: "Any" = _Settings()
    for key, value in Policy(record).__dict__.items():
        setattr(policy, key, value)
    return policy


def _trust(policy: "Any", vault: "Vault") -> TrustAnchors:
    """Return the CAs and pins, with the device's own certificate where it logs in by one."""
    cas, pins = records.load(vault, "trust")
    terms = policy.connection
    if terms is not None and "certificate" in terms["auth"]:
        from ..net.client_certificate import ClientTrust

        return ClientTrust(cas, pins, vault)
    return TrustAnchors(cas, pins)


def _make_client(agent: Agent) -> None:
    """Give the agent the MQTT client of its policy; its only subscription is the agent's own."""
    policy, names = agent.policy, agent.names
    _, _, user, password, client_id = records.load(agent.vault, "broker")
    terms = policy.connection
    if terms is not None and terms["auth"] == "certificate":
        user = password = None
    agent.client = Client(
        client_id,
        user,
        password,
        agent.on_message,
        policy.keepalive_s,
        policy.max_message,
        policy.stall_ms,
        agent.on_skipped,
    )
    agent.client.greet = agent.greet
    last_will = b"{}"  # its topic says it all: it is not authenticated, and sent at each log-in
    if policy.mode == "plain":
        last_will = b'{"event": "offline", "deviceId": "%s"}' % names.device.encode()
    agent.client.set_last_will(names.event("offline", JSON), last_will)


def _react(inbox: Inbox, policy: "Policy") -> None:
    """Let the inbox react to floods as the policy says."""
    terms = policy.incidents
    inbox.delays, inbox.lock_ms = (0, 0), _LOCK_MS
    if terms is not None:
        inbox.delays = (
            _PAUSE_MS if terms["junk"] == "delay" else 0,
            _PAUSE_MS if terms["apps"] == "delay" else 0,
        )
        inbox.lock_ms = terms["lock_s"] * 1000 if terms["apps"] == "lock" else 0
    if policy.mode == "plain" and not policy.validate:
        inbox.lock_ms = 0  # anyone may use an application's name there


def start(agent: Agent, apps: "list[App]", panel: "Any", memory: "Any" = None) -> None:
    """Make the sessions, or the plain mode, and start the agent's tasks and those of its features.

    panel: what the board has for the gate (board/panel.py), or None. memory: that outlives deep
    sleep (hal/retained.py), or None.
    """
    policy, vault = agent.policy, agent.vault
    saved: "Any" = None
    boot: "Any" = sys.modules.get("warden.ota.result")  # of a board with slots
    # Only the policy's mode is loaded: the code of the other takes 10 KB of a board's heap.
    if policy.mode == "sealed":
        from ..session.session import HelloCounter, Session

        # Committed and read back before the first hello: no other boot has used its nonces.
        nonce = records.load_raw(vault, "nonce")
        kind = Session
        if memory is not None:
            from ..session import resume

            kind = resume.ResumableSession
            saved = resume.load(vault, memory, agent.clock.now(), boot)
        if saved is not None:
            number = saved.boot
        else:
            number = vault.advance("boot") if boot is None else boot.advance(vault)
        counter = HelloCounter(number, nonce, vault, agent.development)
        if saved is not None:
            # Its hellos count on from before the sleep: no write to the flash.
            counter.connect = saved.connect
        for app in apps:
            session = kind(agent.names, app.appid, app.key, counter, policy.digest, app.authority)
            agent.sessions.append(session)
            for state in saved.sessions if saved is not None else ():
                if state[0] == app.appid:
                    session.resume(state, agent.now_ms())  # type: ignore[attr-defined]
            if app.authority:
                agent.commands.set_authority(app.appid, agent.run_authority_command)
    else:
        from ..session.plain import Plain

        appids = [app.appid for app in apps if not app.authority or len(apps) == 1]
        agent.plain = Plain(agent.names, appids, vault, policy.validate, policy.store)
    agent.inbox = Inbox(
        agent.names,
        agent.commands,
        agent.incidents,
        agent.sessions,
        agent.plain,
        agent.on_time,
        policy.max_message,
    )
    # A session that outlived sleep goes on without: leave() kept none with records to send.
    agent.incidents.kept = saved is None and "incidents" in vault.names()
    _react(agent.inbox, policy)
    if "locked" in vault.names():
        agent.inbox.locked = True
        agent.log("locked", "the authority alone is obeyed until `warden unlock`")
    works: "list[Any]" = []
    if policy.connection is not None:
        auth = policy.connection["auth"]
        if auth == "certificate-or-password":
            from ..token import ways

            agent.token = ways.Ways(agent)
        elif auth == "certificate-or-token":
            from ..token import choice

            works.append(choice.start(agent).run())
        elif "token" in auth:
            from ..token import keeper

            works.append(keeper.start(agent).run())
    if "rotation" in vault.names():
        from ..rotation import commands

        commands.start(agent)
    elif "network_new" in vault.names():
        from ..rotation import networks

        networks.start(agent)
    elif "policy_new" in vault.names():
        from ..rotation import policies

        policies.start(agent)
    if boot is not None:
        from ..ota import standby

        agent.ota = standby.make(agent)
        if agent.ota is not None:
            works.append(agent.ota.run())
    if hasattr(agent.trust, "own"):
        from ..net import client_certificate

        works.append(client_certificate.watch(agent))
    if "failures" in vault.names():
        from ..board import app_failures

        works.append(app_failures.run(agent))
    if policy.connection is not None and policy.connection["outbox"]:
        from .delivery import Delivery

        agent.delivery = agent.inbox.delivery = Delivery(agent, apps, policy.connection)
        if saved is not None and saved.outbox is not None:
            agent.delivery.resume(saved.outbox)
        works.append(agent.delivery.run())
    if policy.otp is not None:
        from ..gate import gate

        works.append(gate.start(agent, panel))
    agent.run(works)
