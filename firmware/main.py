"""Run the application in /app/app.py, and reset the board when it ends for any reason.

No path leads from here to a REPL, which would have the vault open.
"""

import micropython

# Again: MicroPython enables Ctrl-C for each file that it runs (shared/runtime/pyexec.c).
micropython.kbd_intr(-1)

import os  # noqa: E402  (Ctrl-C first)
import sys  # noqa: E402
import time  # noqa: E402

from warden.hal import system  # noqa: E402

try:
    # A cut rename may hide boot.py (see there) until littlefs writes: then reset.
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
except Exception as error:  # of any kind: print it; the pause limits the flash wear of starts
    sys.print_exception(error)
    time.sleep(system.PAUSE_S)
finally:
    # SystemExit and KeyboardInterrupt end here, too.
    print("warden: the application ended, the board starts anew")
    system.reset()
