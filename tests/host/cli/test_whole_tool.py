"""What holds for each command of the tool, found by a walk over all of them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_kit import said
from warden_host.cli import exit_codes, main
from warden_host.errors import CODES, HostError, LinkError, PeerError, class_of

REPO = Path(__file__).resolve().parents[3]
WIDTH = 80
# Writes a script or a page for people, or starts nothing that could answer.
NO_JSON = {("completion",)}


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path, those of groups too."""

    def below(path: tuple[str, ...], found: click.Command):
        inner = getattr(found, "commands", None)
        if inner is None:
            yield path, found
        else:
            for name, one in inner.items():
                yield from below((*path, name), one)

    for name in main.COMMANDS:
        yield from below((name,), main.command(name))


ALL = list(commands())


def ids(value) -> str:
    return " ".join(value) if isinstance(value, tuple) else ""


@pytest.mark.parametrize(("path", "command"), ALL, ids=ids)
def test_help_example_json_and_usage_errors(path, command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    assert main.run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    example = rf"warden (--fleet \S+ )?{' '.join(path)}\b"
    assert re.search(example, text.partition("Example")[2])
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []
    if path not in NO_JSON:
        assert "--json" in [name for option in command.params for name in option.opts]
    assert main.run([*path, "--no-such-option", "--json"]) == exit_codes.USAGE
    error = said(capsys)
    assert error["ok"] is False
    assert set(error["error"]) == {"code", "kind", "text", "hint"}
    assert (error["error"]["code"], error["error"]["kind"]) == ("bad-argument", "usage")
    assert "--no-such-option" in error["error"]["text"]
    assert f"warden {' '.join(path)} --help" in error["error"]["hint"]


def test_usage_errors_of_the_tool_itself(capsys):
    for arguments, words in (
        (["devcies"], "did you mean devices"),
        (["nosuch"], "no command 'nosuch'"),
        (["send"], "missing argument 'DEVICE'"),
        (["send", "D1", "x", "--ttl", "soon"], "--ttl"),
        (["rollouts", "9" * 30], "range"),  # more than the database counts to
    ):
        assert main.run([*arguments, "--json"]) == exit_codes.USAGE
        assert words in said(capsys)["error"]["text"]
    assert main.run(["devcies"]) == exit_codes.USAGE
    assert capsys.readouterr().err == (
        "✗ bad-argument  there is no command 'devcies'; did you mean devices?\n"
        "  → `warden --help` shows how to use it\n"
    )


def test_exit_codes_by_kind():
    assert set(exit_codes._BY_CODE) <= CODES
    expected = {
        "not-serving": 3,
        "no-session": 3,
        "command-refused": 4,
        "revoked": 4,
        "suit-digest": 4,
        "device-unknown": 5,
        "timed-out": 6,
        "bad-json": 2,
        "interrupted": 130,
        "fleet-exists": 1,
        "database-damaged": 1,
        "flash-failed": 1,
    }
    assert {code: exit_codes.of(HostError(code)) for code in expected} == expected
    for code in CODES:
        cls = class_of(code)
        if issubclass(cls, PeerError) and not issubclass(cls, LinkError):
            assert exit_codes.of(HostError(code)) == exit_codes.REFUSED


def test_exit_codes_are_in_the_help_and_on_the_page(capsys):
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    page = (REPO / "docs/commands.md").read_text()
    for number, word in exit_codes.KINDS.items():
        assert f"{number} {word}" in " ".join(text.split())
        assert f"| {number} | `{word}` |" in page


def test_what_destroys_asks_or_wants_yes(folder, capsys, monkeypatch):
    assert main.run(["provision", "D1", "--sim"]) == 0
    capsys.readouterr()
    for command in (["wipe", "D1"], ["revoke", "D1"]):
        assert main.run([*command, "--json"]) == exit_codes.USAGE
        assert "--yes" in said(capsys)["error"]["hint"]
        monkeypatch.setattr("sys.stdin", open("/dev/null"))
        assert main.run(command) == exit_codes.INTERRUPTED
        out, err = capsys.readouterr()
        assert out == ""
        assert "aborted: nothing more was done" in err
    assert main.run(["devices", "--json"]) == 0
    assert said(capsys)["ending"] is None


# Ctrl-C while the module that is named is imported: at the start, before and within a command.
INTERRUPT = """
import sys
from warden_host.cli.entry import main

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
sys.argv[1:] = {arguments!r}
main()
"""


@pytest.mark.parametrize(
    ("module", "json_option"),
    [
        *(("click", ""), ("click", "--json")),
        *(("warden_host.cli.devices", ""), ("warden_host.cli.devices", "--json")),
        ("warden_host.cli.table", ""),  # JSON needs no such module
    ],
)
def test_ctrl_c_while_it_imports(folder, module, json_option):
    arguments = ["devices", *([json_option] if json_option else [])]
    program = INTERRUPT.format(module=module, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == exit_codes.INTERRUPTED
    assert "Traceback" not in done.stderr
    if "--json" in arguments:
        assert json.loads(done.stdout)["error"]["code"] == "interrupted"
    else:
        assert "aborted: nothing more was done" in done.stderr


def test_no_color():
    program = "from warden_host.cli import screen; screen.good('done', 'more')"
    environment = {"NO_COLOR": "1", "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"PYTHONPATH": str(REPO / "tools"), "TERM": "xterm", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "done" in done.stdout
    assert "\x1b[" in done.stdout  # bold and dim are no colours
    assert not re.search(r"\x1b\[(\d+;)*[349]\d", done.stdout)
