"""Refuse what a device that was cut off, or that is in quarantine, may not send or be sent."""

from dataclasses import replace

from warden_client.protocol.results import Refused

from warden_host.engine.device_state import DeviceState
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.store.store import Device

# In quarantine by a reaction: a session, incidents, updates and new secrets go on.
_EVENTS = frozenset(("hello", "ready", "reply", "incident", "offline"))
_COMMANDS = frozenset(("update", "rotate", "policy", "token", "wipe"))


def refusal(state: DeviceState, appid: str, verb: str) -> Refused | None:
    """Return why an event of the device is refused, or None where it is not."""
    ending, reaction = state.ending, state.device.reaction
    if ending is not None and ending.revoked and not (ending.wipe and appid == AUTHORITY):
        return Refused(verb, "revoked", "it was cut off")
    if reaction is not None and verb not in _EVENTS:
        return Refused(verb, "quarantined", f"in quarantine ({reaction.code})")
    return None


def check_command(state: DeviceState, command: str, appid: str) -> None:
    """Raise revoked or quarantined where the device may not be sent the command."""
    name, ending, reaction = state.device.device, state.ending, state.device.reaction
    if ending is not None and ending.revoked and not (ending.wipe and command == "wipe"):
        raise HostError("revoked", f"{name} was cut off")
    if state.mark.quarantine:
        raise HostError("quarantined", f"{name} is in quarantine: {state.mark.quarantine}")
    if reaction is not None and (appid != AUTHORITY or command not in _COMMANDS):
        raise HostError(
            "quarantined",
            f"{name} is in quarantine ({reaction.code}): {reaction.text}",
            f"look at the device, then `warden readmit {name}`",
        )


def follow(state: DeviceState, known: Device) -> None:
    """Take over what fleet.db has of a device's restrictions, while its sessions go on."""
    state.device = replace(state.device, reaction=known.reaction, ending=known.ending)
