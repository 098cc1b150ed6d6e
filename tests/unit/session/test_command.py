"""Dispatch denies what nobody allowed."""

from harness import check, equal, raises
from warden.errors import PeerError, UsageError, WardenError
from warden.session.command import AUTHORITY_ONLY, PROTOCOL, Commands, Refused

PURE = True


def handler(arguments):
    return arguments


def other(arguments):
    return None


def made():
    commands = Commands()
    commands.register("blink", handler)
    commands.register("reboot", other)
    commands.grant("home", ("blink", "missing"))
    commands.grant("nobody", ())
    return commands


def test_allowed_and_registered():
    equal(made().find("home", "blink"), (handler, False))


def test_denied_without_a_grant():
    commands = made()
    for appid, command in (
        ("home", "reboot"),
        ("nobody", "blink"),
        ("stranger", "blink"),
        ("", "blink"),
        ("home", ""),
    ):
        check(isinstance(raises("not-allowed", commands.find, appid, command), PeerError))
    # Whether there is a handler is nobody's business who may not use it.
    raises("not-allowed", commands.find, "stranger", "missing")
    raises("not-allowed", commands.find, "home", "nothing-of-the-kind")


def test_allowed_without_a_handler():
    check(isinstance(raises("unknown-command", made().find, "home", "missing"), PeerError))


def test_the_authoritys_own_can_not_be_granted():
    equal(
        sorted(AUTHORITY_ONLY),
        ["apps", "develop", "policy", "rotate", "token", "update", "wifi", "wipe"],
    )
    commands = made()
    own = AUTHORITY_ONLY + ("warden_unlock", "warden_clock", "warden_anything")
    commands.grant("home", own)
    for command in own:
        commands._handlers[command] = handler  # even if one stood there
        raises("not-allowed", commands.find, "home", command)


def test_an_applications_unlock_and_the_gates():
    ran = []
    commands = made()
    commands.register("unlock", handler)
    commands.grant("home", ("unlock",))
    commands.set_authority("authority", lambda command, args: ran.append(command))
    equal(commands.find("home", "unlock"), (handler, False))
    raises("not-allowed", commands.find, "stranger", "unlock")  # it was not granted
    for command in ("unlock", "warden_unlock", "warden_clock", "wipe"):
        run, takes_call = commands.find("authority", command)
        equal((run({}), takes_call, commands.is_own("authority", command)), (None, None, True))
    # The authority that may give the application's command has the gate's by its other name.
    commands.grant("authority", ("unlock",))
    equal(commands.find("authority", "unlock"), (handler, False))
    commands.find("authority", "warden_unlock")[0]({})
    equal(ran, ["unlock", "unlock", "warden_clock", "wipe", "unlock"])
    raises("unknown-command", commands.find, "authority", "warden_other")
    for command in ("warden_unlock", "warden_clock"):
        raises("not-allowed", commands.find, "home", command)


def test_a_handler_that_takes_the_call():
    commands = Commands()
    commands.register("blink", handler, call=True)
    commands.grant("home", ("blink",))
    equal(commands.find("home", "blink"), (handler, True))


def test_codes_of_refusals():
    for code in ("door-open", "a", "2", "x" * 32, "already-on-2"):
        error = Refused(code)
        equal((error.code, isinstance(error, WardenError)), (code, False))
    own = [
        "busy",
        "command-failed",
        "expired",
        "gate-shut",
        "not-allowed",
        "old-session",
        "cbor-limit",
    ]
    for code in own + [
        "unknown-command",
        "",
        "Door",
        "door_open",
        "door open",
        "x" * 33,
        "\u00e9",
    ]:
        check(isinstance(raises("bad-name", Refused, code), UsageError))
    for other_type in (None, 1, b"door-open", ["busy"]):
        raises("bad-name", Refused, other_type)


def test_a_grant_replaces_the_one_before():
    commands = made()
    commands.grant("home", ("reboot",))
    raises("not-allowed", commands.find, "home", "blink")
    equal(commands.find("home", "reboot"), (other, False))


def test_names_that_can_not_be_registered():
    commands = made()
    for name in (
        AUTHORITY_ONLY
        + PROTOCOL
        + (
            "warden_blink",
            "warden_clock",
            "blink",
            "",
            "Blink",
            "bl-ink",
            "a/b",
            "w" * 33,
            None,
            b"blink",
            1,
        )
    ):
        check(isinstance(raises("bad-name", commands.register, name, other), UsageError))
    equal(commands.find("home", "blink"), (handler, False))
    otp = ["server_otp_response", "server_otp_validate"]
    equal(sorted(PROTOCOL), ["ack"] + otp + ["server_uid_response", "wake", "welcome"])
