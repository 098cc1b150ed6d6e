"""The vault over the stores on raw flash and in NVS, with the power cut at every program, erase
and commit of every call, and again at every one of the start that follows.

    micropython tests/faults/device/power_stores.py [all | STORE]        STORE: a class of this
    file; the right ones without

Prints for each call `STORE CALL: OPERATIONS operations, CUTS cuts, OLD old, NEW new, HEALS heals`;
ends with status 1 and the reason when a promise is broken.
"""

import sys
from hashlib import sha256

HERE = __file__.rsplit("/", 1)[0]
sys.path[:] = [HERE + "/../../unit/kit", HERE + "/../../../lib", ".frozen"]

from board_model import PowerCut  # noqa: E402  (the path must be set first)
from nor_model import Nor  # noqa: E402
from nvs_model import Nvs  # noqa: E402
from vault_kit import SCENARIOS, Wrong, begin, check_after_cut, heals_at  # noqa: E402
from vault_kit import change as make  # noqa: E402
from warden.errors import StoreError  # noqa: E402
from warden.hal import flash_scan  # noqa: E402
from warden.hal.store_flash import FlashStore  # noqa: E402
from warden.hal.store_nvs import NvsStore  # noqa: E402

# How the operation ends that the cut falls on: see nor_model.py.
TORN = (0, 3, 8, -2, -6)
# After which of them the start is cut as well; all when "all" is asked for.
HEALED = [-6]


class NoMark(FlashStore):
    """Wrong: takes a change whose mark is missing."""

    def _mount(self):
        if not self._mounted:
            saved = flash_scan.zeros
            flash_scan.zeros = lambda programmed: 32
            try:
                super()._mount()
            finally:
                flash_scan.zeros = saved


class ErasesFirst(FlashStore):
    """Wrong: erases what stands before it stands elsewhere."""

    def _move(self, moved):
        kept = []
        for name, data, kind in moved:
            if data is None:
                data = bytearray(self._index[name][1])
                self.fetch(self._index[name][0], data)
            kept.append((name, data, kind))
        if self._bank >= 0:
            self._prepare(self._bank)
        super()._move(kept)


class InPlace(NvsStore):
    """Wrong: the chunks of a record take the place of those before."""

    def write(self, name, data):
        self._mount()
        if name in self._index:
            self._free.append(self._index[name][0])
            self._erase(self._index[name][0], 0)
            self._nvs.commit()
        super().write(name, data)


class Place:
    """A store's medium, and how to begin anew on it."""

    def __init__(self, kind, unit=16, banks=2, sectors=8, sector=1024):
        self.kind, self.unit, self.banks = kind, unit, banks
        self.on_nvs = issubclass(kind, NvsStore)
        self.part = Nvs() if self.on_nvs else Nor(sectors, sector, unit)

    def store(self):
        self.part.power_up()
        if self.on_nvs:
            return self.kind("warden", self.part)
        return self.kind(self.part, self.unit, self.banks)

    def image(self):
        return dict(self.part.blobs) if self.on_nvs else bytes(self.part.data)

    def load(self, image):
        self.part.power_up()
        if self.on_nvs:
            self.part.blobs, self.part.pending = dict(image), {}
        else:
            self.part.data[:] = image


def attempt(place, work, budget, torn):
    """Whether the work was finished before the power went."""
    part = place.part
    part.operations, part.budget, part.torn = 0, budget, torn
    try:
        work()
        return True
    except PowerCut:
        return False


def change(place, name, image, budget, torn=0):
    place.load(image)
    vault = begin(name, place.store())
    return attempt(place, lambda: make(name, vault), budget, torn)


def heal(place, image, budget, torn=0):
    """Start a board over this medium, with the power cut at operation `budget`."""
    place.load(image)
    store = place.store()

    def start():
        begin("start" if "commit" in store.names() else "provision", store)

    return attempt(place, start, budget, torn)


def check_once(place, name, known):
    """check_after_cut(), once for each content of the medium: what an operation leaves of which
    no bit was written, and what the one before leaves when it was whole, are the same.

    known: what was found so far, by digest of the content.
    """
    image = place.image()
    if place.on_nvs:
        image = repr(sorted(image.items())).encode()
    digest = sha256(image).digest()
    if digest not in known:
        known[digest] = check_after_cut(name, place.store, False)
    return known[digest]


def scenario(place, name, title, image):
    known = {}
    change(place, name, image, None)
    operations = place.part.operations
    found = {"old": 0, "new": 0}
    cuts = heals = 0
    for budget in range(operations):
        for torn in TORN:
            change(place, name, image, budget, torn)
            cut = place.image()
            result = check_once(place, name, known)
            found[result] += 1
            cuts += 1
            if torn not in HEALED or not heals_at(name, budget):
                continue
            heal(place, cut, None)
            for second in range(place.part.operations):
                heal(place, cut, second, torn)
                if check_once(place, name, known) != result:
                    raise Wrong("healing changed what was found")
                heals += 1
    finished = change(place, name, image, None)
    if check_after_cut(name, place.store, finished) != "new":
        raise Wrong("an uncut change was lost")
    print(
        "%s: %d operations, %d cuts, %d old, %d new, %d heals"
        % (title, operations, cuts, found["old"], found["new"], heals)
    )


def before_collection(place, image):
    """The medium as it stands when any change finds its bank full."""
    place.load(image)
    store = place.store()
    erased = sum(place.part.erases)
    while sum(place.part.erases) == erased:
        image = place.image()
        store.change((), ())  # takes no more than its head and its mark
    return image


def main(kinds):
    for title, kind, options in kinds:
        place = Place(kind, *options)
        empty = place.image()
        make("provision", begin("provision", place.store()))
        full = place.image()
        for name in sorted(SCENARIOS):
            scenario(place, name, title + " " + name, empty if name == "provision" else full)
        if not place.on_nvs:
            full = before_collection(place, full)
            for name in sorted(SCENARIOS):
                # What goes before a rotation would take the room that is to be missing.
                if name != "provision" and not SCENARIOS[name][0]:
                    scenario(place, name, title + " collect, " + name, full)


RIGHT = (
    ("flash 16", FlashStore, (16, 2)),
    ("flash 256", FlashStore, (256, 3, 9, 2048)),
    ("nvs", NvsStore, ()),
)

if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["all"]:
            HEALED[:] = TORN
            main(RIGHT)
        elif len(sys.argv) > 1:
            main((("wrong", globals()[sys.argv[1]], ()),))
        else:
            main(RIGHT)
    except (Wrong, StoreError) as error:
        print("wrong:", error)
        sys.exit(1)
