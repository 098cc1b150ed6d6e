"""What the media of the new stores hold: nothing in clear at any time, and after a wipe nothing of the vault at all, wherever the power went."""

from harness import check, equal, raises
from models import PowerCut, RootKey
from nor import Nor
from nvs import Nvs
from warden.errors import StoreError
from warden.hal.store_flash import FlashStore
from warden.hal.store_nvs import NvsStore
from warden.vault import Vault
from warden.wipe import finish, wipe

PURE = True

SECRETS = (b"planted secret of the broker", b"another one, for an application")


class Flash:
    def __init__(self, unit, sectors, sector, banks):
        self.unit, self.banks = unit, banks
        self.part = Nor(sectors, sector, unit)

    def store(self):
        self.part.power_up()
        return FlashStore(self.part, self.unit, self.banks)

    def image(self):
        return bytes(self.part.data)

    def load(self, image):
        self.part.data[:] = image


class Settings:
    def __init__(self):
        self.part = Nvs()

    def store(self):
        self.part.power_up()
        return NvsStore("warden", self.part)

    def image(self):
        return b"".join([self.part.blobs[key] for key in sorted(self.part.blobs)])

    def load(self, image):
        self.part.blobs, self.part.pending = dict(image), {}

    def blobs(self):
        return dict(self.part.blobs)


def places():
    return Flash(16, 8, 1024, 2), Flash(256, 9, 1024, 3), Settings()


def saved(place):
    return place.blobs() if isinstance(place, Settings) else place.image()


def used(place):
    """A vault with a past on the medium; (what must not be found in clear, what a wipe must leave nothing of)."""
    vault = Vault(place.store(), RootKey())
    vault.create()
    store, sealed = vault._store, []
    for turn in range(6):
        vault.commit({"a": SECRETS[0], "b": SECRETS[1] + b"%d" % turn}, {"boot": turn + 1})
        sealed += [store.read(name, 5000) for name in store.names()]
    clear = list(SECRETS)
    clear += [bytes(vault._key), vault._nonce_key, vault._set_key, b"r" * 32]
    return clear, sealed


def holds(image, secrets):
    """Whether any 12 bytes of one of these are in the image; a short secret is searched whole."""
    for secret in secrets:
        for at in range(0, max(1, len(secret) - 11), 4):
            if secret[at : at + 12] in image:
                return True
    return False


def test_nothing_is_in_clear_after_use():
    for place in places():
        clear, sealed = used(place)
        check(not holds(place.image(), clear))
        check(holds(place.image(), sealed))


def test_nothing_is_left_after_a_wipe():
    for place in places():
        clear, sealed = used(place)
        vault = Vault(place.store(), RootKey())
        vault.open()
        wipe(vault)
        check(not holds(place.image(), clear + sealed))
        # With the root key it is no more than an empty flash.
        raises("not-provisioned", Vault(place.store(), RootKey()).open)
        Vault(place.store(), RootKey()).create()


def state(place):
    vault = Vault(place.store(), RootKey())
    try:
        vault.open()
        return "open"
    except StoreError as error:
        return error.code


def test_a_wipe_cut_at_every_operation():
    for place in places():
        _, sealed = used(place)
        before = saved(place)
        found = {"open": 0, "wiped": 0, "not-provisioned": 0}
        operations, finished = 0, False
        while not finished:
            for torn in (0, 4, 8, -4):
                place.load(before)
                vault = Vault(place.store(), RootKey())
                vault.open()
                part = place.part
                part.operations, part.budget, part.torn = 0, operations, torn
                try:
                    wipe(vault)
                    finished = True
                except PowerCut:
                    pass
                result = state(place)
                found[result] += 1
                if result != "open":
                    finish(place.store())
                    check(not holds(place.image(), sealed))
            operations += 1
        print(type(place).__name__, "wipe:", operations - 1, "operations,", found)
        check(operations > 5 and found["open"] > 0 and found["wiped"] > 0)
        equal(result, "not-provisioned")
