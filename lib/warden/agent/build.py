"""Build an agent from its vault and start it. agent/device.py unloads this module afterwards."""

import sys

from micropython import const

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
    policy: "Any" = _Settings()
    for key, value in Policy(records.load_raw(vault, "policy")).__dict__.items():
        setattr(policy, key, value)
    clock = Clock(rtc, vault, floor)
    clock.start()
    host, port, user, password, client_id = records.load(vault, "broker")
    trust = TrustAnchors(*records.load(vault, "trust"))
    agent = Agent(vault, names, policy, clock, trust, (host, port), network, log, on_fatal)
    apps = records.load_apps(vault)
    for app in apps:
        agent.commands.grant(app.appid, app.commands)
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
    agent.client.set_last_will(
        names.event("offline", JSON),
        b'{"event": "offline", "deviceId": "%s"}' % names.device.encode(),
    )
    return agent, apps


def start(agent: Agent, apps: "list[App]", panel: "Any") -> None:
    """Make the sessions, or the plain mode, and start the agent's tasks and those of its features.

    panel: what the board has for the gate (board/panel.py), or None.
    """
    policy, vault = agent.policy, agent.vault
    # Only the policy's mode is loaded: the code of the other takes 10 KB of a board's heap.
    if policy.mode == "sealed":
        from ..session.session import HelloCounter, Session

        # Committed and read back before the first hello: no other boot has used its nonces.
        boot: "Any" = sys.modules.get("warden.ota.boot")
        nonce = records.load_raw(vault, "nonce")
        number = vault.advance("boot") if boot is None else boot.advance(vault)
        counter = HelloCounter(number, nonce, agent.generation)
        for app in apps:
            agent.sessions.append(
                Session(agent.names, app.appid, app.key, counter, policy.digest, app.authority)
            )
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
    if "rotation" in vault.names():
        from ..rotation import commands

        commands.start(agent)
    works: "list[Any]" = []
    if "warden.ota.boot" in sys.modules:
        from ..ota import service

        agent.ota = service.make(agent)
        if agent.ota is not None:
            works.append(agent.ota.run())
    if policy.otp is not None:
        from ..gate import gate

        works.append(gate.start(agent, panel))
    agent.run(works)
