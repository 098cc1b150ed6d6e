"""Runs on MicroPython: what of the heap an update holds, after a collection, in each of its phases.

    micropython tests/bench/update_heap.py LIB KIT UMQTT FOLDER

LIB: the package as boards run it. On the standard input, in hex: the vault's record of release keys, and a signed manifest of an image of zeros. Prints a JSON object: bytes
more than the vault and the slots take while nothing is under way.
"""

import sys

sys.path[:] = [*sys.argv[1:4], ".frozen"]

import gc  # noqa: E402  (the path must be set first)
import json  # noqa: E402

# A connected agent has these names already, and the large pool that they open.
import warden.agent.build  # noqa: E402, F401
import warden.agent.device  # noqa: E402, F401
import warden.ota.boot  # noqa: E402, F401
import warden.ota.service  # noqa: E402, F401
import warden.session.session  # noqa: E402, F401
from board_model import DictStore, RootKey  # noqa: E402
from warden import unload  # noqa: E402
from warden.hal.slots_file import FileSlots  # noqa: E402
from warden.ota.order import Order  # noqa: E402
from warden.ota.slots import SlotRecord  # noqa: E402
from warden.vault import Vault  # noqa: E402

PIECE = 1024
found = {}


def live():
    gc.collect()
    return gc.mem_alloc()


class Watched(FileSlots):
    """The last question of a judgement is whether there is room: all of its code is loaded then."""

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
order = Order(bytes.fromhex(envelope), None, False)
idle = live()

order.judge(vault, slots, None)
found["once it was judged"] = live() - idle

from warden.ota.download import Updater  # noqa: E402

update = Updater(vault, slots, None)
update.take(order, 0)
del order
most = 0
while update.state == "Downloading":
    while update.step():
        pass
    wanted = update.want()
    if wanted is not None:
        update.chunk(wanted[0], piece, 0)
        if wanted[0] % 64 == 0:
            most = max(most, live() - idle)
found["while the image comes"] = most

parts = update.hand_over()
del update, Updater
for name in ("warden.ota.download", "warden.ota.opening", "warden.ota.reuse"):
    unload(name)

from warden.ota.verify import ReadBack  # noqa: E402

after = ReadBack(*parts)
del parts
most = steps = 0
while after.step():
    steps += 1
    if steps % 16 == 1:
        most = max(most, live() - idle)
found["while it is read back"] = most
if after.state != "Testing":
    raise RuntimeError(after.reason)
print(json.dumps(found))
