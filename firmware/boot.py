"""Runs first, on every start, before anything that a peer or an update could have touched."""

import gc
import sys

import micropython

# No Ctrl-C into a REPL that has the vault open.
micropython.kbd_intr(-1)

# Frozen modules first, then the application, then the libraries. The writable working directory, which stock firmware puts first,
# is gone: a file dropped there must not shadow a module.
sys.path[:] = [".frozen", "/app", "/lib"]

import os  # noqa: E402  (the path first: a file of this name would shadow the firmware's)

# After a power cut inside a rename between folders, littlefs (2.11, MicroPython 1.26 to 1.29) hides another entry of the folder until it
# is asked to write: board.py, /lib or main.py may be missing. Asking for a removal makes it finish the rename first.
try:
    os.remove("/~")
except OSError:  # there is no such file
    pass

# What imports leave behind lies between what stays, and a heap in small pieces has no room for a TLS connection: collect often.
gc.threshold(4096)

try:
    import board
except ImportError:  # not provisioned yet
    board = None

if hasattr(board, "SLOTS"):
    try:
        from warden.board.load import boot_slots

        boot_slots(board.SLOTS)
    except Exception as error:  # nothing was verified: main.py finds no application to run
        sys.path[:] = [".frozen", "/lib"]
        sys.print_exception(error)
