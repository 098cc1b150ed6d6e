"""Test `make demo`: every line of it passes, and a line that goes wrong fails it."""

import subprocess
import sys
from pathlib import Path

from demo.script import Mismatch, Story
from process_kit import PATIENCE_S
from rich.console import Console
from warden_host.errors import HostError

# What each line must name; the demo itself checks that it was the device or the broker that
# answered.
RESULTS = (
    "pinned",
    "opened by home",
    "executed: relay 1",
    "certificate-untrusted",
    "pin-mismatch",
    "certificate-name",
    "certificate-expired",
    "wrong-application",
    "tampered",
    "replayed",
    "old-session",
    "plain-refused",
    "the device stays connected",
    "not granted",
    "neither the authority nor the device",
    "set_relay meanwhile: gate-shut",
    "refused: Wrong code",
    "refused: Code expired",
    "opened; set_relay is executed",
    "Downloading → Verifying → Installing → Testing → Accepted",
    "refused before anything was written: tampered",
    "refused before anything was written: old-manifest",
    "Testing → Rejected (trial-failed): version 2 runs again",
)


def test_every_line_passes(repo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=repo / "examples",
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in RESULTS:
        assert words in done.stdout, words
    assert "✗" not in done.stdout


def test_a_line_that_goes_wrong_fails_the_demo(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as out:
        story = Story(Console(file=out))

        def wrong() -> str:
            raise Mismatch("executed")

        def broken() -> str:
            raise HostError("unreachable", "no broker")

        story.line("a forged command", wrong)
        story.line("a server", broken)
        assert story.failures == 2
        assert story.end() == 1
    printed = (tmp_path / "out").read_text()
    assert "executed" in printed and "unreachable" in printed
