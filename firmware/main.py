"""Runs the application in /app/app.py, and starts the board anew when it ends, for whatever reason.

There is no way from here to a REPL: it would have the vault open.
"""

import micropython

# Again: the firmware turns Ctrl-C on anew for each file that it runs (shared/runtime/pyexec.c).
micropython.kbd_intr(-1)

import os  # noqa: E402  (Ctrl-C first)
import sys  # noqa: E402
import time  # noqa: E402

from warden.hal import system  # noqa: E402

try:
    # A cut rename may hide boot.py (see there), until littlefs is asked to write: then the start begins anew.
    if "boot.py" not in os.listdir("/"):
        try:
            os.remove("/~")
        except OSError:
            if "boot.py" in os.listdir("/"):
                system.reset()
    if "/app" in sys.path:
        import app  # noqa: F401  (its main loop runs in the import)
    else:
        from warden.agent import recovery

        recovery.main()
except Exception as error:  # whatever it is: show it, and don't wear the flash out with starts
    sys.print_exception(error)
    time.sleep(system.PAUSE_S)
finally:
    # SystemExit and KeyboardInterrupt end here, too.
    print("warden: the application ended, the board starts anew")
    system.reset()
