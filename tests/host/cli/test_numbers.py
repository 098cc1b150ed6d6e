"""Numbers that come as text: digits within bounds alone, however many there are."""

import click
import pytest
from cli_kit import fails
from host_kit import refused
from warden_host.bans import firewall
from warden_host.cli import listening, main
from warden_host.fleet.fleet import Fleet
from warden_host.numerals import decimal

# What the arguments of the commands are, by their names, and what a command needs besides.
GIVEN = {"device": "D1", "patterns": "D1", "args": "{}", "values": "stall_ms=6000", "source": "."}
MORE = {
    "app token": ("--type", "relay"),
    "provision": ("--again", "--sim"),
    "release": ("--version", "1", "--type", "relay"),
    "rotate": ("--pins",),
}
# More than SQLite takes, and more digits than int() does.
LARGE = ("9" * 30, "-" + "9" * 30, "9" * 5000)
NOT_FINITE = ("nan", "inf", "-inf", "1e300")


@pytest.mark.parametrize(
    ("text", "found"),
    [("0", 0), ("007", 7), ("10", 10), (b"10", 10), ("100", 100), ("1", 1), ("101", None)],
)
def test_digits_within_the_bounds(text, found):
    assert decimal(text, 100) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "+1",
        "-1",
        "1_0",
        "1.0",
        "0x1",
        "\u0663",
        "\u00b2",
        b"\xb2",
        "0001",
        "9" * 5000,
    ],
)
def test_what_is_no_decimal_number(text):
    assert decimal(text, 100) is None


def test_a_number_below_the_least():
    assert decimal("4", 100, 5) is None and decimal("5", 100, 5) == 5


def test_an_address_without_a_host():
    assert listening.parse("9810", "--web") == ("127.0.0.1", 9810)
    with refused("bad-argument"):
        listening.parse(":9810", "--web")  # elsewhere it means every address


@pytest.mark.parametrize("port", ["9" * 5000, "65536", "-1", "\u0663", "x", ""])
def test_ports(port):
    with refused("bad-argument"):
        listening.parse(f"127.0.0.1:{port}", "--web")
    if port:
        with refused("bad-argument"):
            firewall.target("target", f"broker.example:{port}", 443)


def test_a_settings_file_with_a_number_of_thousands_of_digits(folder, capsys):
    settings = folder / "warden.toml"
    for more in ("large = " + "9" * 5000, "deep = " + "[" * 3000):
        text = settings.read_text()
        settings.write_text(f"{more}\n{text}")
        with refused("config-malformed"):
            _ = Fleet(folder).settings
        settings.write_text(text)


def numeric(command, path, context):
    """Yield the command line, the option and its type for each numeric parameter below."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            yield from numeric(below, (*path, name), click.Context(below, parent=context))
        return
    numbers = click.types.IntParamType | click.types.FloatParamType
    given = [
        GIVEN.get(one.name, one.name)
        for one in command.params
        if isinstance(one, click.Argument) and not isinstance(one.type, numbers)
    ]
    for one in command.params:
        if isinstance(one.type, numbers):
            option = one.opts[-1] if isinstance(one, click.Option) else ""
            yield [*path, *given, *MORE.get(" ".join(path), ())], option, one.type


def test_no_option_gives_a_traceback(folder, capsys):
    """An exception that is no HostError would end the test here."""
    assert main.run(["app", "add", "appid", "--type", "relay", "--command", "command"]) == 0
    assert main.run(["provision", "D1", "--sim"]) == 0
    for call, option, kind in numeric(main.warden, (), click.Context(main.warden)):
        is_float = isinstance(kind, click.types.FloatParamType)
        for value in (*LARGE, *(NOT_FINITE if is_float else ())):
            end = main.run([*call, f"{option}={value}"] if option else [*call, "--", value])
            # A list is empty beyond its end.
            assert end != 0 or call[0] == "devices", (call, option, value[:40])


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1", "1e300"])
def test_a_time_to_wait_is_finite_and_above_zero(folder, capsys, value):
    for call in (("send", "D1", "set_relay"), ("wifi", "D1"), ("readmit", "D1"), ("token", "D1")):
        fails(capsys, "bad-argument", *call, f"--timeout={value}")
