"""Runs the application in /app/app.py, and starts the board anew when it ends, for whatever reason.

There is no way from here to a REPL: it would have the vault open.
"""

import sys

from warden.hal import system

try:
    import app  # noqa: F401  (its main loop runs in the import)
except Exception as error:  # whatever it is: say it and start over
    sys.print_exception(error)
finally:
    system.reset()
