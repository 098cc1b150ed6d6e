"""Runs first, on every start, before anything that a peer or an update could have touched."""

import gc
import sys

import micropython

micropython.kbd_intr(-1)  # no Ctrl-C into a REPL that has the vault open

# The firmware's modules, bound while the path holds no files: an import would take a file first.
sys.path[:] = [".frozen"]
_NAMES = "asyncio binascii cryptolib deflate errno esp32 gc hashlib io json machine network os"
_NAMES += " rp2 select socket struct time tls vfs"
for name in _NAMES.split():
    try:
        sys.modules[name] = __import__(name)
    except ImportError:
        pass  # not on this port

# The application, then libraries; not the working directory, which stock firmware puts first.
sys.path[:] = [".frozen", "/app", "/lib"]

# After a power cut inside a rename between folders, littlefs (2.11, MicroPython 1.26 to 1.29)
# hides another entry of the folder until it is asked to write: board.py, /lib or main.py may be
# missing. A removal makes it finish the rename.
try:
    sys.modules["os"].remove("/~")
except OSError:
    pass  # there is no such file

# A new package, complete: its own code puts it in the place of /lib.
files = sys.modules["os"].listdir("/")
if "lib~" in files:
    sys.path[:] = [".frozen", "/lib~"]
    try:
        from warden.provisioning.replace import replace
    except Exception as error:  # it does not run on this firmware: the present one goes on
        sys.print_exception(error)
        sys.modules["os"].rename("/lib~", "/lib~part")
    else:
        replace()
    sys.modules["machine"].reset()

# A TLS connection needs large pieces. At 4,096 a Pico W has its agent 0.6 s later; at -1, 26 KB.
gc.threshold(32768)

try:
    import board
except ImportError:  # not provisioned yet
    board = None
except Exception:  # of any kind: an error here would end in the REPL
    board = sys.path.remove("/app")  # None; main.py says what is wrong, and runs no application

if hasattr(board, "SLOTS"):
    try:
        from warden.board.slots import boot_slots

        boot_slots(board.SLOTS)
        del boot_slots  # nothing here may keep the module
    except Exception as error:  # nothing was verified: main.py finds no application to run
        sys.path[:] = [".frozen", "/lib"]
        sys.print_exception(error)

# mpremote's soft reset stops the timer that ends development mode, and goes past main.py.
if "console.open" in files:
    try:
        from warden.hal import console

        console.resume(board)
    except Exception as error:  # of any kind: an error here would end in the REPL
        sys.print_exception(error)
del board, files, name, _NAMES  # main.py, and so the application, runs in this namespace
