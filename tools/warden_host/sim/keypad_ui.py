"""Draw the keypad and display of a simulated device below its log lines, with prompt_toolkit."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style
from prompt_toolkit.widgets import Frame

from warden_host.sim.keyboard import Keyboard

COLUMNS = 16
ROWS = ("123", "456", "789", "*0#")
KEYS = "".join(ROWS)
_PRESSED_S = 0.15
_STYLE = Style.from_dict(
    {"display": "bg:#103010 #80ff80", "pressed": "reverse bold", "hint": "#808080"}
)
_PREFIX = "display "


class Panel:
    """The drawn keypad and display.

    keyboard: receives each key that is pressed.
    interrupt: called on Ctrl-C, which reaches this program as a key and not as a signal.
    """

    def __init__(self, keyboard: Keyboard, interrupt: Callable[[], None]) -> None:
        self._keyboard = keyboard
        self._lines = ("", "")
        self._pressed = ""
        bindings = KeyBindings()
        for key in KEYS:
            bindings.add(key)(self._on_key)
        bindings.add("enter")(lambda _: self._press("#"))
        bindings.add("backspace")(lambda _: self._press("*"))
        bindings.add("c-c")(lambda _: interrupt())
        frames = VSplit(
            [
                Frame(Window(FormattedTextControl(self._display), width=COLUMNS, height=2)),
                Frame(Window(FormattedTextControl(self._keys), width=7, height=4)),
                Window(FormattedTextControl(self._hint)),
            ],
            padding=1,
        )
        self.application: Application[None] = Application(
            Layout(HSplit([frames], height=6)),
            key_bindings=bindings,
            style=_STYLE,
            erase_when_done=True,
        )

    def show(self, line: str) -> bool:
        """Show a line of the device that is meant for the display.

        line: as the device printed it, such as "display Code?|****".

        Returns: whether the line was for the display.
        """
        if not line.startswith(_PREFIX):
            return False
        first, _, second = line.removeprefix(_PREFIX).partition("|")
        self._lines = (first, second)
        self.application.invalidate()
        return True

    def _on_key(self, event: KeyPressEvent) -> None:
        self._press(event.key_sequence[0].data)

    def _press(self, key: str) -> None:
        self._keyboard.feed(key.encode())
        self._pressed = key
        timer = threading.Timer(_PRESSED_S, self._release)
        timer.daemon = True
        timer.start()

    def _release(self) -> None:
        self._pressed = ""
        self.application.invalidate()

    def _display(self) -> StyleAndTextTuples:
        text = "\n".join(line[:COLUMNS].ljust(COLUMNS) for line in self._lines)
        return [("class:display", text)]

    def _keys(self) -> StyleAndTextTuples:
        text: StyleAndTextTuples = []
        for row in ROWS:
            for key in row:
                text += [("", " "), ("class:pressed" if key == self._pressed else "", key)]
            text.append(("", " \n"))
        return text[:-1]

    def _hint(self) -> StyleAndTextTuples:
        return [("class:hint", "\n0-9 type\n# or Enter send\n* clears\nCtrl-C stops")]


@contextlib.contextmanager
def drawn(keyboard: Keyboard) -> Iterator[Panel]:
    """Draw the panel on a thread of its own while the context is open.

    The main thread must stay free: the device's process is tied to the thread that started it
    (childprocess.tie_to_us).
    """
    panel = Panel(keyboard, lambda: os.kill(os.getpid(), signal.SIGINT))

    def run() -> None:
        panel.application.run(handle_sigint=False, set_exception_handler=False)

    with patch_stdout(raw=True):
        thread = threading.Thread(target=run, name="warden-keypad", daemon=True)
        thread.start()
        try:
            yield panel
        finally:
            with contextlib.suppress(Exception):  # it may have ended by itself
                panel.application.exit()
            thread.join(2)
