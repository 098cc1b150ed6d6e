"""The clock of a simulated board: that of the machine which runs the unix port."""

import os
import time


class SystemClock:
    """The unix port's clock, in Unix seconds: its host keeps it, and a process can't set it.

    control: a file of an interposed clock library (libfaketime, FAKETIME_TIMESTAMP_FILE): with it,
    a simulated board has a clock that starts in 2021 and can be set, as the real chip has.
    """

    def __init__(self, control: "str | None" = None) -> None:
        try:
            if control is not None:
                os.stat(control)
        except OSError:
            control = None
        self.control = control

    def now(self) -> int:
        return int(time.time())

    def set(self, unix_time: int) -> bool:
        if self.control is None:
            return False
        text = "@%04d-%02d-%02d %02d:%02d:%02d\n" % time.gmtime(unix_time)[:6]
        with open(self.control, "w") as file:
            file.write(text)
        return -2 <= self.now() - unix_time <= 2
