"""Let an unforeseen exception cost one round of a thread, and not the thread.

A thread of a service that ended would watch nothing from then on, and a traceback on standard
error alone would say so. One whose state is in doubt after such an exception ends the service
instead (service/authority.py).
"""

import contextlib
import time
import traceback
from collections.abc import Callable

from warden_host.errors import HostError, filesystem_error

# Called with an error's code and a sentence.
Tell = Callable[[str, str], None]
_TOLD_AGAIN_S = 3600.0
_MOST_TOLD = 64


class RoundGuard:
    """Run the rounds of one thread, which pauses between them also where one has failed.

    failed: what is missing after a failed round, such as "tokens were not cut off".
    tell: the same sentence comes once an hour at most.
    clock: steady seconds.
    """

    def __init__(
        self, failed: str, tell: Tell, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failed = failed
        self._tell = tell
        self._clock = clock
        self._told: dict[str, float] = {}  # text → when it was told
        self.count = 0  # failed rounds

    def attempt(self, work: Callable[..., object], *given: object) -> bool:
        """Run a round; return whether it came to its end."""
        try:
            work(*given)
        except Exception as error:  # noqa: BLE001
            self.note(error)
            return False
        return True

    def note(self, error: Exception) -> None:
        """Count an exception, and tell it where it was not told lately.

        The text of an unforeseen one may hold a secret: its name and its place are told.
        """
        self.count += 1
        known = filesystem_error(error) if isinstance(error, OSError) else error
        counted = ""
        if not isinstance(known, HostError):
            known = HostError("internal-error", f"{type(error).__name__} at {_place(error)}")
            counted = f", {self.count} since the start: report it as a bug"
        now, text = self._clock(), known.text
        if now - self._told.get(text, float("-inf")) < _TOLD_AGAIN_S:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[text] = now
        with contextlib.suppress(Exception):  # there is no other way to tell of that
            self._tell(known.code, f"{self._failed}: {text}{counted}")


def _place(error: Exception) -> str:
    """Return the innermost module of ours that an exception passed, and its line."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        if name.startswith("warden_"):
            found = f"{name}:{line}"
    return found
