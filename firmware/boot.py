"""Runs first, on every start, before anything that a peer or an update could have touched."""

import gc
import sys

import micropython

# No Ctrl-C into a REPL that has the vault open.
micropython.kbd_intr(-1)

# Frozen modules first, then the application, then the libraries. The writable working directory, which stock firmware puts first,
# is gone: a file dropped there must not shadow a module.
sys.path[:] = [".frozen", "/app", "/lib"]

# What imports leave behind lies between what stays, and a heap in small pieces has no room for a TLS connection: collect often.
gc.threshold(4096)

try:
    import board
except ImportError:  # not provisioned yet
    board = None

if hasattr(board, "SLOTS"):
    try:
        from warden.hardware import boot_slots

        boot_slots(board.SLOTS)
    except (
        Exception
    ) as error:  # nothing was verified, so no application may run: main.py finds none
        sys.path[:] = [".frozen", "/lib"]
        sys.print_exception(error)
