"""Open the keypad of a simulated device: drawn on this terminal, or fed from a pipe."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from warden_host.sim.keyboard import Keyboard


@contextlib.contextmanager
def open_keypad(
    gated: bool, as_json: bool
) -> Iterator[tuple[Keyboard | None, Callable[[str], bool]]]:
    """Open the keypad and display of a device that has a gate.

    gated: whether the device asks for a code; without a gate there is nothing to type.
    as_json: whether the lines of the device go to a program; then nothing is drawn.

    Yields: the keyboard, or None where no key can come; and a function that takes a line of the
    device and returns whether the line was for the display (and is shown there).
    """
    if not gated:
        yield None, _not_shown
    elif _owns_terminal() and not as_json:
        from warden_host.sim.keypad_ui import drawn  # prompt_toolkit loads only where it draws

        keyboard = Keyboard()
        with drawn(keyboard) as panel:
            yield keyboard, panel.show
    elif not sys.stdin.isatty():
        keyboard = Keyboard()
        keyboard.pump_stdin()
        yield keyboard, _not_shown
    else:
        yield None, _not_shown


def _not_shown(_: str) -> bool:
    return False


def _owns_terminal() -> bool:
    """Return whether standard input and output are a terminal that this process may read."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        # A background process that reads its terminal is stopped by the kernel.
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False
