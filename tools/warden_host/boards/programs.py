"""Programs that the host runs on a board: each prints one line of JSON, without secrets.

They import what the package keeps public (`warden_build.groups.API`). Words in capitals are
replaced by values.
"""

import re

# The interpreter as boot.py leaves it, but with Ctrl-C, and without a watchdog: once started it
# would bite when the program has ended.
STARTED = """
import sys
sys.path[:] = [".frozen", "/lib"]
import board
if hasattr(board, "WATCHDOG"):
    del board.WATCHDOG
with open(BOOT) as f:
    text = f.read()
exec(text, {"__name__": "boot"})
del text
import micropython
micropython.kbd_intr(3)
"""

# The vault, and what of it the fleet can prove to know. CHALLENGE: bytes. PIN: bytes.
STATE = """
import json, sys
sys.path[:] = [".frozen", "/lib"]
from warden.provisioning.provision import state
print(json.dumps(state(CHALLENGE, PIN)))
"""

# Before the bundle of a device with a certificate: no run in between may start the board anew.
MAKE_KEY = """
import json, sys
sys.path[:] = [".frozen", "/lib"]
from warden.provisioning.provision import certificate_key
print(json.dumps(certificate_key()))
"""

ERASE = """
import json, sys
sys.path[:] = [".frozen", "/lib"]
from warden.provisioning.provision import erase
erase()
print(json.dumps({"ok": True}))
"""

# Values: as self_test() of warden/provisioning/provision.py has them.
SELF_TEST = """
import json, sys
sys.path[:] = [".frozen", "/lib"]
from warden.provisioning.provision import self_test
print(json.dumps(self_test(KEY, TEXT, POINT, SIGNATURE)))
"""

# `frames` is filled before. Only names of errors are printed: a text could quote what it read.
INSTALL = """
import io, json, sys
sys.path[:] = [".frozen", "/lib"]
from warden.errors import WardenError
from warden.provisioning.provision import provision
try:
    provision(io.BytesIO(frames))
    answer = {"ok": True}
except WardenError as error:
    answer = {"ok": False, "error": error.code, "text": error.text}
finally:
    frames[:] = bytes(len(frames))
print(json.dumps(answer))
"""

# MOMENT: as machine.RTC().datetime() takes it.
SET_CLOCK = """
import json, time
from machine import RTC
RTC().datetime(MOMENT)
print(json.dumps({"now": list(time.gmtime()[:6])}))
"""

# One whole connection, as an application makes it. SECONDS: at most. APP: that must have a
# session, or "" for any.
CONNECT = """
import asyncio, json
from warden import Device
log = []
def note(code, text):
    log.append([code, text])
    del log[:-6]
device = Device.from_board(note, lambda: PIN)
async def connect():
    start = asyncio.create_task(device.start())
    found = ()
    for _ in range(SECONDS * 5):
        await asyncio.sleep_ms(200)
        found = device.session
        if APP in found or (found and not APP):
            break
        if start.done():
            break
    start.cancel()
    try:
        await start
    except asyncio.CancelledError:
        pass
    await device.stop()
    return found
found = asyncio.run(connect())
print(json.dumps({"session": list(found), "log": log}))
"""

# The files become the board's own, main.py last: then the next start is Warden's.
MAKE_LIVE = """
import json, os
for old, new in RENAMES:
    os.rename(old, new)
print(json.dumps({"ok": True}))
"""

# What a start would run goes first: until main.py is there again a start ends at the REPL.
TAKE_DOWN = """
import json, os
removed = False
for name in ("/main.py", "/boot.py"):
    try:
        os.remove(name)
        removed = True
    except OSError:
        pass
print(json.dumps({"removed": removed}))
"""

# Files below ROOTS that are none of KEPT go, those of CHANGED wherever they are, and folders that
# are none of FOLDERS; then the missing folders are made.
TIDY = """
import json, os
def files(folder):
    try:
        entries = list(os.ilistdir(folder))
    except OSError:
        return
    for entry in entries:
        path = folder + "/" + entry[0]
        if entry[1] == 0x4000:
            yield from files(path)
            if path not in FOLDERS:
                os.rmdir(path)
        elif path not in KEPT:
            os.remove(path)
            yield path
removed = 0
for path in CHANGED:
    try:
        os.remove(path)
        removed += 1
    except OSError:
        pass
for folder in ROOTS:
    for path in files(folder):
        removed += 1
    if folder not in FOLDERS:
        try:
            os.rmdir(folder)
        except OSError:
            pass
for folder in FOLDERS:
    try:
        os.mkdir(folder)
    except OSError:
        pass
print(json.dumps({"removed": removed, "free": os.statvfs("/")[3]}))
"""


def fill(program: str, **values: object) -> str:
    """Return the program with its words in capitals replaced. values: name → Python value."""
    words = re.compile(r"\b(" + "|".join(values) + r")\b")
    return words.sub(lambda match: repr(values[match.group()]), program)
