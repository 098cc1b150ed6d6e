"""Test completion: in bash itself, and its answers for the other shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from warden_host.cli import completion, main
from warden_host.store.store import Store

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def named(folder, capsys):
    for device in ("front-door", "front-gate", "back-door"):
        assert main.run(["provision", device, "--sim", "--type", "lock"]) == 0
    assert main.run(["group", "add", "ground", "back-door"]) == 0
    assert main.run(["app", "add", "home", "--type", "lock", "--command", "x"]) == 0
    with Store(folder / "fleet.db") as store:
        store._do("INSERT INTO releases VALUES (1, 'lock-1.4.0', 'lock', '1.4.0', 1.0, NULL)")
    capsys.readouterr()
    return folder


def words(capsys, monkeypatch, line: str, shell: str = "bash") -> list[str]:
    """Return what is offered for the last word of a line, "" after a space."""
    typed = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", typed[-1] if shell == "fish" else str(len(typed) - 1))
    monkeypatch.setenv("_WARDEN_COMPLETE", f"{shell}_complete")
    assert main.call([]) == 0
    answer = capsys.readouterr().out
    monkeypatch.delenv("_WARDEN_COMPLETE")
    if shell == "zsh":
        return answer.split("\n")[1::3]
    return [one.split(",")[1].split("\t")[0] for one in answer.split("\n") if "," in one]


# What is typed → what is offered.
OFFERED = (
    ("warden com", ["completion"]),
    ("warden show fr", ["front-door", "front-gate"]),
    ("warden devices --state on", ["online"]),
    ("warden devices back", ["back-door"]),
    ("warden send --group g", ["ground"]),
    ("warden wipe --type ", ["lock"]),
    ("warden group add ground fr", ["front-door", "front-gate"]),
    ("warden rollout lock", ["lock-1.4.0"]),
    ("warden app tok", ["token", "token-key", "tokens"]),
    ("warden app token h", ["home"]),
    ("warden --fleet nowhere show fr", []),
)


def test_what_is_offered(named, capsys, monkeypatch):
    for line, offered in OFFERED:
        assert words(capsys, monkeypatch, line) == offered, line
    for shell in ("zsh", "fish"):
        assert words(capsys, monkeypatch, "warden show fr", shell) == ["front-door", "front-gate"]
        assert main.run(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert f"_WARDEN_COMPLETE={shell}_complete" in script
    # A damaged fleet offers nothing, and says nothing.
    (named / "fleet.db").write_bytes(b"damaged" * 1000)
    assert words(capsys, monkeypatch, "warden show fr") == []
    assert capsys.readouterr().err == ""


# What runs in the shell: it prints what is offered for `warden rotate front`.
SHELLS = {
    "bash": """
eval "$(warden completion bash)"
COMP_WORDS=(warden rotate front); COMP_CWORD=2
_warden_completion warden
printf '%s\\n' "${COMPREPLY[@]}"
""",
    # Outside of a line editor zsh has no compadd.
    "zsh": """
compdef() { :; }
compadd() { print -l -- "${completions[@]}"; }
eval "$(warden completion zsh)"
words=(warden rotate front); CURRENT=3
_warden_completion
""",
    "fish": "warden completion fish | source; complete -C 'warden rotate front'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself(named, tmp_path, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    program = tmp_path / "bin" / "warden"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m warden_host.cli "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(REPO / "tools")}
    environment |= {"HOME": str(tmp_path)}  # none of the shells reads a file of the user's
    done = subprocess.run(
        [shell, "-c", SHELLS[shell]], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["front-door", "front-gate"]
    assert done.stderr == ""


def test_a_question_of_another_form(monkeypatch):
    for question in ("tcsh_complete", "bash_sing", ""):
        assert completion.complete(main.warden, question) == 1
