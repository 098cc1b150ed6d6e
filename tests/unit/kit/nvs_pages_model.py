"""An NVS partition down to its bytes, as ESP-IDF's manual and PageManager lay it out: pages of 126
entries of 32 bytes, of which each is empty, written or erased, and an erased one keeps its bytes
until its page is wanted.

An item takes a head and its data, whole entries, within one page; a blob is cut into as many items
as the pages want. What is full is left, and the next page taken; when one free page is left, the
page with the fewest written entries is copied to it and erased, and if all pages have nothing but
written entries there is no space. What is written stands at once: a cut falls between two
operations.
"""

from nvs_model import Nvs

ENTRIES = 126
ENTRY = 32
FULL = OSError(-4357, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")


class Page:
    def __init__(self):
        self.items = []  # (key or None where it was erased, its bytes, entries)

    def room(self):
        return ENTRIES - sum([item[2] for item in self.items])

    def unused(self):
        return ENTRIES - sum([item[2] for item in self.items if item[0] is not None])


class NvsPages(Nvs):
    def __init__(self, pages=6):
        super().__init__()
        self.used = []
        self.free = [Page() for _ in range(pages)]
        self.erases = 0
        self._raw = bytearray(pages * ENTRIES * ENTRY)
        self._blank = b"\xff" * len(self._raw)
        self._next()

    def raw(self):
        """All bytes that the flash holds; the same buffer each time."""
        at = 0
        for page in self.used:
            for item in page.items:
                self._raw[at : at + len(item[1])] = item[1]
                at += len(item[1])
        self._raw[at:] = memoryview(self._blank)[at:]
        return self._raw

    def image(self):
        return [list(page.items) for page in self.used], dict(self.blobs)

    def load(self, image):
        pages, blobs = image
        total = len(self.used) + len(self.free)
        self.used = []
        for items in pages:
            page = Page()
            page.items = list(items)
            self.used.append(page)
        self.free = [Page() for _ in range(total - len(pages))]
        self.blobs, self.pending = dict(blobs), {}

    def _next(self):
        """Make another page the one that is written to."""
        if len(self.free) > 1:
            self.used.append(self.free.pop())
            return
        most = None
        for page in self.used:
            if page.unused() and (most is None or page.unused() > most.unused()):
                most = page
        if most is None:
            raise FULL
        fresh = self.free.pop()
        fresh.items = [item for item in most.items if item[0] is not None]
        self.used.remove(most)
        self.used.append(fresh)
        self.free.append(Page())
        self.erases += 1

    def _append(self, key, data):
        head = (key.encode() + bytes(ENTRY))[:ENTRY]
        while True:
            room = self.used[-1].room()
            if room < 2 and (room < 1 or data):
                self._next()
                # Storage::writeMultiPageBlob ends there, too: no page has more room than this.
                if self.used[-1].room() <= room:
                    raise FULL
                continue
            part, data = data[: (room - 1) * ENTRY], data[(room - 1) * ENTRY :]
            self.used[-1].items.append((key, head + part, 1 + (len(part) + ENTRY - 1) // ENTRY))
            if not data:
                return

    def _drop(self, key, items):
        for page in self.used:
            for i, item in enumerate(page.items):
                if item[0] == key and item in items:
                    page.items[i] = (None, item[1], item[2])

    def _held(self, key):
        return [item for page in self.used for item in page.items if item[0] == key]

    def _write(self, key, data, kept):
        self._count_operation()
        old = self._held(key)
        try:
            self._append(key, data)
        except OSError:  # what was written of it is erased
            self._drop(key, [item for item in self._held(key) if item not in old])
            raise
        self._drop(key, old)
        self.blobs[key] = kept

    def set_blob(self, key, value):
        if len(value) > self.limit:
            raise OSError(-4366, "ESP_ERR_NVS_VALUE_TOO_LONG")
        self._write(key, bytes(value), bytes(value))

    def set_i32(self, key, value):
        if self._seen(key) is None:
            self._write(key, b"", value.to_bytes(4, "little"))

    def erase_key(self, key):
        if self._seen(key) is None:
            raise OSError(-4354, "ESP_ERR_NVS_NOT_FOUND")
        self._count_operation()
        self._drop(key, self._held(key))
        del self.blobs[key]
