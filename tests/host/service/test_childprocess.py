"""How children are tied to this process and ended, without any."""

import signal
import subprocess
from pathlib import Path

import pytest
from warden_host import childprocess


def test_without_setpriv_a_child_is_not_tied(tmp_path, monkeypatch):
    """Another program's link of that name, as busybox has it, does not count."""
    busybox = tmp_path / "busybox"
    busybox.touch()
    (tmp_path / "setpriv").symlink_to(busybox)
    for found in (None, str(tmp_path / "setpriv")):
        monkeypatch.setattr(childprocess.shutil, "which", lambda _, found=found: found)
        assert childprocess.tie_to_us(["x"]) == ["x"]


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("CapEff:\t0000000000001000\n", True),
        ("CapEff:\t000001ffffffefff\n", False),
        ("CapPrm:\t0000000000001000\n", False),
        ("", False),
        (None, False),
    ],
)
def test_a_right_that_the_kernel_does_not_tell_is_none(monkeypatch, text, has):
    def read_text(_path):
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    assert childprocess.has_firewall_right() == has


class Stubborn:
    """A process that ends when it is killed."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def poll(self):
        return None

    def send_signal(self, number):
        self.done.append(number)

    def wait(self, timeout=None):
        if "killed" not in self.done:
            raise subprocess.TimeoutExpired("x", timeout)
        self.done.append("waited")

    def kill(self):
        self.done.append("killed")


def test_a_child_that_does_not_end_is_killed():
    process = Stubborn()
    childprocess.terminate(process)
    assert process.done == [signal.SIGTERM, "killed", "waited"]
