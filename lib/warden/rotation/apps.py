"""Authority command `apps`: one application added, changed or removed, by one commit.

Rules: docs/protocol.md, apps. At every power cut the device has the old table of applications or
the new one. The authority itself is not in reach of the command, so that the next order can put
right what this one did. Nothing is tried first: another application's key is in use beside it
until the authority removes it.
"""

from micropython import const

from .. import unload
from ..errors import PeerError
from ..vault import records
from ..wire import cbor
from ..wire.names import are_words, is_id
from .pending import MAX_ID

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from ..vault import Vault
    from .rotation import Rotation

_FIELDS = const(("id", "app", "key", "commands"))


def run(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    """Make a change of one application; return the state, also where args are empty.

    PeerError bad-body, unexpected; not-allowed for the authority's own record.
    """
    vault = agent.vault
    before = _appids(vault)
    if args and change(vault, args, agent.rotation):
        _use(agent, args["app"], args["key"], args["commands"])
        if _appids(vault) != before:
            apps = records.load_apps(vault)
            agent.alone = len(apps) == 1
            if agent.delivery is not None:
                agent.delivery.replace_apps(apps)
        agent.log("apps-changed", args["app"])
        agent.wakeup.set()
    state = {
        "id": vault.counter("apps"),
        "apps": _appids(vault),
        "up": list({session.appid: 0 for session in agent.sessions if session.up}),
    }
    if agent.rotation is None:  # the application needs the heap
        unload("warden.rotation.apps")
        unload("warden.rotation.pending")
        unload("warden.rotation.commands")
        unload("warden.vault.records")
    return state


def _appids(vault: "Vault") -> "list[str]":
    return sorted([name[4:] for name in vault.names() if name.startswith("app_")])


def change(vault: "Vault", args: "dict[str, Any]", pending: "Any" = None) -> bool:
    """Check and commit a change; return False for the last one that was accepted, sent again.

    pending: the rotation on the agent, whose new key of the application goes with the old one.
    Raises: as run().
    """
    fields: "list[Any]" = [args.get(field) for field in _FIELDS]
    id, appid, key, commands = fields
    good = len(args) == 4 and all([field in args for field in _FIELDS])
    good = good and type(id) is int and 0 < id <= MAX_ID and is_id(appid)
    if key is not None:
        good = good and isinstance(key, bytes) and len(key) == 32 and commands is not None
    if not good or not (commands is None or are_words(commands, records.MAX_COMMANDS)):
        raise PeerError("bad-body")
    taken = vault.counter("apps")
    if id <= taken:
        if id < taken:
            raise PeerError("unexpected")
        return False
    name = "app_" + appid
    names = vault.names()
    record = _record(vault, appid, key, commands)
    changes: "dict[str, bytes | None]" = {}
    if record is not None or name in names:
        changes[name] = record
    if key is not None or commands is None:
        secrets: "Rotation | None" = getattr(pending, "secrets", None)
        if secrets is not None and appid in secrets.apps:
            changes["rotation"] = secrets.record_without(appid)
    if (record is None) == (name in names):
        # Events in it name their applications by the place among all of them.
        for saved in names:
            if saved.startswith("outbox"):
                changes[saved] = None
    counters: "dict[str, int]" = {"apps": id}
    vault.commit(changes, counters)
    return True


def _record(vault: "Vault", appid: str, key: "Any", commands: "Any") -> "bytes | None":
    """Return the application's new record, or None for none. PeerError bad-body, not-allowed."""
    apps = records.load_apps(vault)
    present = [app for app in apps if app.appid == appid]
    if present and present[0].authority:
        raise PeerError("not-allowed")
    if commands is None:
        return None
    if key is None:
        if not present:
            raise PeerError("bad-body")
        key = present[0].key
    elif not present and len(apps) >= records.MAX_APPS:
        raise PeerError("bad-body")
    for app in apps:
        if app.appid != appid and app.key == key:
            raise PeerError("bad-body")
    return cbor.encode([key, False, commands])


def _use(agent: "Agent", appid: str, key: "bytes | None", commands: "list[str] | None") -> None:
    """Let the running agent use a change: grants and sessions."""
    now = agent.now_ms()
    old = agent.commands.grant(appid, tuple(commands or ()))
    narrower = not all([command in (commands or ()) for command in old])
    if key is not None or commands is None:
        if agent.rotation is not None and hasattr(agent.rotation, "drop_app"):
            agent.rotation.drop_app(appid)
        for session in list(agent.sessions):
            if session.appid == appid:
                session.drop()  # a command of it that waits is not run any more
                agent.sessions.remove(session)
        if key is not None:
            first = agent.sessions[0]
            made = type(first)(agent.names, appid, key, first.counter, agent.policy.digest, False)
            agent.sessions.append(made)
            if agent.client.connected:
                made.start(now)
    elif narrower and agent.client.connected:
        for session in agent.sessions:
            if session.appid == appid:
                session.start(now)  # nor is one that it may not give any more
