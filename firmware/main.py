"""Run /app/app.py, and reset the board when it ends: a REPL would have the vault open.

A board that has no vault yet ends at the REPL, to be provisioned.
"""

import micropython

# Again: MicroPython enables Ctrl-C for each file that it runs (shared/runtime/pyexec.c).
micropython.kbd_intr(-1)

import os  # noqa: E402  (Ctrl-C first)
import sys  # noqa: E402
import time  # noqa: E402

from warden.board import load  # noqa: E402
from warden.hal import system  # noqa: E402

failed, bare = "", False
try:
    try:
        # A cut rename may hide boot.py (see there) until littlefs writes: then reset.
        if "boot.py" not in os.listdir("/"):
            try:
                os.remove("/~")
            except OSError:
                if "boot.py" in os.listdir("/"):
                    system.reset()
        failed = "" if "/app" not in sys.path or load.app_held() else "ended"
        system.console_open = bare = load.is_bare()
        del load  # Device.from_board() unloads it
        if bare:
            print("warden: this board is not provisioned")
        elif failed:
            import app  # noqa: F401  (its main loop runs in the import)
        else:
            from warden.agent import recovery

            recovery.main()
    except Exception as error:  # of any kind: print it
        sys.print_exception(error)
        failed = failed and type(error).__name__
    except SystemExit as error:  # an end as any other, but for system.reset() of the unix port
        if error.args == (system.RESET,):
            raise
    if not bare:
        time.sleep(system.PAUSE_S)  # limits the flash wear of starts
    if failed and not system.console_open:
        sys.modules.pop("app", None)
        from warden.board import load

        load.app_ended(failed)
finally:
    if bare:
        print("warden: here is the console")
    elif system.console_open:  # board/development.py
        print("warden: the application ended; DEVELOPMENT MODE: here is the console")
    else:
        print("warden: the application ended, the board starts anew")
        system.reset()
