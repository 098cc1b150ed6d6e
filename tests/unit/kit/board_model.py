"""Stand-ins for the parts of a board, for tests of what stands above them."""

from warden.crypto.kdf import hmac_sha256
from warden.errors import StoreError
from warden.hal.store_steps import StepStore


class PowerCut(Exception):
    """Not a WardenError: nothing in the library may catch it and go on as if the operation had
    been refused."""


class DictStore(StepStore):
    """A store that keeps its promises: write() and remove() are old-or-new. `budget`: how many
    changes it makes before the power goes.
    `log`: the changes, in order."""

    def __init__(self, files=None):
        self.files = dict(files or {})
        self.budget = None
        self.log = []

    def _change(self, what, name):
        if self.budget is not None:
            if self.budget == 0:
                raise PowerCut()
            self.budget -= 1
        self.log.append((what, name))

    def names(self):
        return list(self.files)

    def read(self, name, limit):
        data = self.files.get(name)
        if data is not None and len(data) > limit:
            raise StoreError("vault-damaged", "too large")
        return data

    def write(self, name, data):
        self._change("write", name)
        self.files[name] = bytes(data)

    def remove(self, name):
        self._change("remove", name)
        self.files.pop(name, None)

    def erase_all(self):
        """The key's place goes last, as in every store: it says that a wipe is under way."""
        for name in sorted(self.files, key=lambda name: name == "key"):
            self.remove(name)


class RootKey:
    """A root key in memory."""

    def __init__(self, key=b"r" * 32):
        self._key = key
        self.created = 0
        self.closed = 0

    def create(self):
        self.created += 1

    def mac(self, message):
        return hmac_sha256(self._key, message)

    def close(self):
        self.closed += 1


class Rtc:
    """A clock that stands still until it is set; `settable` as the unix port's is not."""

    def __init__(self, now, settable=True):
        self.time = now
        self.settable = settable
        self.sets = []

    def now(self):
        return self.time

    def set(self, unix_time):
        if not self.settable:
            return False
        self.sets.append(unix_time)
        self.time = unix_time
        return True


def counted_random(start=0):
    """A generator that never repeats within a run and begins anew in the next: the worst that
    random_bytes() can't notice."""
    state = [start]

    def draw(n):
        state[0] += 1
        out = b""
        while len(out) < n:
            out += hmac_sha256(
                b"generator", state[0].to_bytes(4, "big") + len(out).to_bytes(4, "big")
            )
        return out[:n]

    return draw
