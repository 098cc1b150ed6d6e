"""Explain why a device refused a command, and what to do: docs/errors.md in short."""

from warden_host.names import is_authority_command

# Codes with which Warden itself answers an application's command (docs/protocol.md, Events,
# replies and incidents); a device keeps its handlers from refusing with one of them.
OWN_REPLIES = frozenset(
    (
        "busy cbor-limit command-failed device-locked expired gate-shut not-allowed old-session "
        "unknown-command"
    ).split()
)
_APPLICATION = (
    "a reason of the device's application, from the command's handler",
    "the application's own documentation says what it means",
)
_REFUSALS = {
    "bad-body": (
        "the content is authentic but not of the form that the protocol gives",
        "use the same version of Warden on both sides",
    ),
    "busy": (
        "commands arrived faster than the device runs them; this one did nothing",
        "send it again later, and fewer at a time",
    ),
    "cbor-limit": (
        "the command is larger, nested deeper or of more items than the device reads",
        "send less, or in several commands: docs/protocol.md, Limits of a value",
    ),
    "command-failed": (
        "the command's handler raised an exception, or returned what no reply can carry",
        "look at the device's application: its own log says where, and check the arguments",
    ),
    "device-locked": (
        "the policy locked the device behind a tampering; nothing was done",
        "look after the device, then `warden unlock DEVICE`",
    ),
    "expired": (
        "the command came after its expiry",
        "send it anew, with a larger --ttl if the network is slow",
    ),
    "gate-open": (
        "no gate is shut: it is open, or the device has none",
        "give the device its commands: there is nothing to unlock",
    ),
    "gate-shut": (
        "the device waits for a code at its keypad; nothing was done",
        "type the code there, or `warden unlock DEVICE`",
    ),
    "not-allowed": (
        "the application may not give this command",
        "`warden app add` registers another application with it, `warden provision --command` "
        "allows it to the authority: then provision the device again",
    ),
    "old-session": (
        "a message of an earlier session",
        "send it again in the present session",
    ),
    "plain-refused": (
        "a plain message to a device whose policy says sealed",
        "give it with `warden send`, which seals it",
    ),
    "unknown-command": (
        "the command is allowed, but the device has no handler for it",
        "register one with @device.command in the device's application",
    ),
    "wrong-application": (
        "the application is unknown to the device, or its secret ID is wrong",
        "provision the device again after `warden app add`",
    ),
}


def explain(code: str, command: str) -> tuple[str, str]:
    """Return (meaning, what to do) of the code with which a device refused a command."""
    if not is_authority_command(command) and code not in OWN_REPLIES:
        return _APPLICATION
    unknown = ("a refusal of the device", "docs/errors.md lists the codes")
    return _REFUSALS.get(code, unknown)
