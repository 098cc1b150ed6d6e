"""The blobs of one NVS namespace, as Espressif's manual and MicroPython's describe them: keys of 1
to 15 characters, values within a limit, a buffer that must be large enough, changes that count
once they are committed. Without a commit, each key may be old or new after a cut.

`budget`: changes and commits until the power goes.
"""

from board_model import PowerCut
from nor_model import Dice


class Nvs:
    def __init__(self, blobs=None, limit=1984, space=65536):
        self.blobs = dict(blobs or {})  # what survives a cut for certain
        self.pending = {}  # key -> blob, None when it is to go
        self.limit = limit
        self.space = space
        # so many small entries more than there are now, and the partition is full: set_i32() alone
        # looks at it
        self.room = 5
        self.operations = 0
        self.budget = None
        self.dice = Dice()
        self.dead = False

    def power_up(self):
        self.budget, self.dead = None, False

    def _count_operation(self):
        if self.dead:
            raise PowerCut()
        if self.budget is not None and self.operations >= self.budget:
            self.dead = True
            for key in sorted(self.pending):
                if self.dice.draw(2):
                    self._apply(key)
            self.pending = {}
            raise PowerCut()
        self.operations += 1

    def _apply(self, key):
        if self.pending[key] is None:
            self.blobs.pop(key, None)
        else:
            self.blobs[key] = self.pending[key]

    def _seen(self, key):
        if not 0 < len(key) <= 15:
            raise OSError(-4361, "ESP_ERR_NVS_KEY_TOO_LONG")
        return self.pending[key] if key in self.pending else self.blobs.get(key)

    def set_blob(self, key, value):
        old = self._seen(key) or b""
        if len(value) > self.limit:
            raise OSError(-4366, "ESP_ERR_NVS_VALUE_TOO_LONG")
        used = sum([len(blob) + 32 for blob in self.blobs.values()])
        if used - len(old) + len(value) + 32 > self.space:
            raise OSError(-4357, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
        self._count_operation()
        self.pending[key] = bytes(value)

    def set_i32(self, key, value):
        new = self._seen(key) is None
        if new and len([one for one in self._keys() if one.startswith("wf")]) >= self.room:
            raise OSError(-4357, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
        self._count_operation()
        self.pending[key] = value.to_bytes(4, "little")

    def _keys(self):
        gone = [key for key in self.pending if self.pending[key] is None]
        return [key for key in set(self.blobs) | set(self.pending) if key not in gone]

    def get_blob(self, key, buffer):
        if self.dead:
            raise PowerCut()
        if not isinstance(buffer, bytearray):
            raise TypeError("a bytearray is wanted")
        value = self._seen(key)
        if value is None:
            raise OSError(-4354, "ESP_ERR_NVS_NOT_FOUND")
        if len(value) > len(buffer):
            raise OSError(-4364, "ESP_ERR_NVS_INVALID_LENGTH")
        buffer[: len(value)] = value
        return len(value)

    def erase_key(self, key):
        if self._seen(key) is None:
            raise OSError(-4354, "ESP_ERR_NVS_NOT_FOUND")
        self._count_operation()
        self.pending[key] = None

    def commit(self):
        self._count_operation()
        for key in self.pending:
            self._apply(key)
        self.pending = {}
