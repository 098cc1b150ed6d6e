"""Puts an agent together from what its vault says. Needed at the start alone: agent/agent.py lets go of this module afterwards."""

import sys

from micropython import const

from ..net.backoff import Backoff
from ..net.clock import Clock
from ..net.link import Trust
from ..net.mqtt import Client
from ..policy.policy import Policy
from ..session.command import Commands
from ..session.inbox import Inbox
from ..session.incident import Incidents
from ..vault import records
from ..wire.names import JSON, Topics

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..net.clock import Rtc
    from ..session.session import Session


def build(agent: "Any", rtc: "Rtc", floor: int) -> None:
    """All that needs no connection and commits nothing."""
    vault = agent._vault
    agent.names = names = Topics(*records.load(vault, "identity"))
    policy = Policy(records.load_raw(vault, "policy"))
    for key, value in policy.__dict__.items():
        setattr(agent.policy, key, value)
    agent._trust = Trust(*records.load(vault, "trust"))
    agent._host, agent._port, user, password, client_id = records.load(vault, "broker")
    agent._clock = Clock(rtc, vault, floor)
    agent._clock.start()
    agent._backoff = Backoff(policy.backoff_min_ms, policy.backoff_max_ms)
    agent._commands = Commands()
    agent._incidents = Incidents()
    agent._apps = records.load_apps(vault)
    for app in agent._apps:
        agent._commands.grant(app.appid, app.commands)
        if app.authority:
            agent._authority = app.appid
    agent._client = Client(
        client_id,
        user,
        password,
        agent._on_message,
        policy.keepalive_s,
        policy.max_message,
        policy.stall_ms,
        agent._on_skipped,
    )
    agent._client.set_last_will(
        names.event("offline", JSON),
        b'{"event": "offline", "deviceId": "%s"}' % names.device.encode(),
    )


def begin(agent: "Any", generation: "Callable[[], int]") -> None:
    """The sessions, or the plain mode, and the inbox that goes with them. generation(): the vault's; a function made here would keep this module."""
    policy, vault, apps = agent.policy, agent._vault, agent._apps
    agent._alone = len(apps) == 1
    # Only the mode that the policy asks for is loaded: the other one's code would take 10 KB of a board's heap.
    sessions: "dict[bytes, Session]" = {}
    if policy.mode == "sealed":
        from ..session.session import Origin, Session

        # Committed and read back before the first hello of this boot: no nonce of it can have been used in another.
        start: "Any" = sys.modules.get("warden.ota.boot")
        boot = vault.advance("boot") if start is None else start.advance(vault)
        origin = Origin(boot, records.load_raw(vault, "nonce"), generation)
        for app in apps:
            session = Session(
                agent.names, app.appid, app.key, origin, policy.digest, app.authority
            )
            agent._sessions.append(session)
            sessions[session.kid] = session
            if app.authority:
                agent._commands.set_authority(app.appid, agent._order)
    else:
        from ..session.plain import Plain

        appids = [app.appid for app in apps if not app.authority or agent._alone]
        agent._plain = Plain(agent.names, appids, vault, policy.validate, policy.store)
    agent._apps = []  # each session has its key now
    agent._inbox = Inbox(
        agent.names,
        agent._commands,
        agent._incidents,
        sessions,
        agent._plain,
        agent._on_time,
        policy.max_message,
    )
