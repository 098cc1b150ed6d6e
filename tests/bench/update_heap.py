"""Runs on MicroPython: what of the heap an update holds, after a collection, in each of its
phases.

    micropython tests/bench/update_heap.py LIB KIT UMQTT FOLDER

LIB: the package as boards run it. On the standard input, in hex: the vault's record of release
keys, and a signed manifest of an image of zeros. Prints a JSON object: bytes more than the vault
and the slots take while nothing is under way.
"""

import sys

sys.path[:] = sys.argv[1:4] + [".frozen"]

import gc  # noqa: E402  (the path must be set first)
import json  # noqa: E402

# A connected agent has these names already, and the large pool that they open.
import warden.agent.build  # noqa: E402, F401
import warden.agent.device  # noqa: E402, F401
import warden.ota.boot  # noqa: E402, F401
import warden.ota.service  # noqa: E402, F401
import warden.session.session  # noqa: E402, F401
from board_model import DictStore, RootKey  # noqa: E402
from warden.hal.slots_file import FileSlots  # noqa: E402
from warden.ota.slots import SlotRecord  # noqa: E402
from warden.ota.update import Update  # noqa: E402
from warden.vault import Vault  # noqa: E402

PIECE = 1024
found = {}


def live():
    gc.collect()
    return gc.mem_alloc()


class Watched(FileSlots):
    """The last question of a judgement is whether there is room: all of its code is loaded
    then."""

    def room(self, part):
        found["while the manifest is judged"] = live() - idle
        return super().room(part)


folder = sys.argv[4]
release, envelope = sys.stdin.readline().split()
vault = Vault(DictStore(), RootKey())
vault.create()
vault.commit({"identity": b"x", "release": bytes.fromhex(release)})
slots = Watched(folder + "/slots", ("app",))
SlotRecord(vault)
piece = bytearray(PIECE)
update = Update(bytes.fromhex(envelope), None, False)
idle = live()

update.verify(vault, slots, None)
found["once it was judged"] = live() - idle

update.start(vault, slots, None, PIECE, 0)
most = {"Downloading": 0, "Verifying": 0}
turns = 0
while update.state in most:
    if not update.step():
        wanted = update.download.want()
        update.download.chunk(wanted[0], piece, 0)
    turns += 1
    if turns % 16 == 1 and update.state in most:
        most[update.state] = max(most[update.state], live() - idle)
while update.step():
    pass
if update.state != "Testing":
    raise RuntimeError(update.reason)
found["while the image comes"] = most["Downloading"]
found["while it is read back"] = most["Verifying"]
print(json.dumps(found))
