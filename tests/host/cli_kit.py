"""What the tests of the command line share: calls, what they said, and a stand-in for a device."""

import json
import sys
from pathlib import Path

from warden_host.cli import exit_codes, main
from warden_host.errors import HostError

# A device that takes its bundle and says so; what it was told is kept for the test.
FAKE = """#!{python}
import pathlib, sys
root = pathlib.Path(sys.argv[2])
data = sys.stdin.buffer.read()
(root / "bundle").write_bytes(data)
{answer}
"""


def fake(folder: Path, monkeypatch, answer: str) -> None:
    program = folder / "micropython"
    program.write_text(FAKE.format(python=sys.executable, answer=answer))
    program.chmod(0o755)
    monkeypatch.setenv("MICROPYTHON", str(program))


def said(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def fails(capsys, code: str, *arguments: str) -> None:
    """The call ends with the code's exit code, names it, and shows no traceback, as text and as
    JSON."""
    expected = exit_codes.of(HostError(code))
    assert main.run(list(arguments)) == expected
    out, err = capsys.readouterr()
    assert code in err
    assert "Traceback" not in out + err
    if "--json" in " ".join(help_of(*arguments[:1])):
        assert main.run([*arguments, "--json"]) == expected
        record = said(capsys)
        assert record["ok"] is False
        assert record["error"]["code"] == code


def help_of(*command: str) -> list[str]:
    names = main.command(command[0]).params
    return [option for param in names for option in param.opts]
