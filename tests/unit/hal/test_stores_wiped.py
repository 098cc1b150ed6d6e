"""The media of the new stores hold nothing in clear, and after a wipe nothing of the vault.

The power may go at any operation.
"""

from board_model import PowerCut, RootKey
from harness import check, equal, raises
from media_kit import Flash, NvsPlace, holds
from nvs_pages_model import NvsPages
from vault_kit import spread
from warden.errors import StoreError
from warden.vault import Vault
from warden.vault.wipe import finish, wipe

PURE = True
SLOW = True

SECRETS = (b"planted secret of the broker", b"another one, for an application")


def places():
    return Flash(16, 8, 1024, 2), Flash(256, 9, 1024, 3), NvsPlace()


def used(place):
    """Write a vault with a history on the medium.

    Returns: what must never be there in clear, what a wipe must remove
    """
    vault = Vault(place.store(), RootKey())
    vault.create()
    store, sealed = vault.store, []
    for turn in range(6):
        vault.commit({"a": SECRETS[0], "b": SECRETS[1] + b"%d" % turn}, {"boot": turn + 1})
        sealed += [store.read(name, 5000) for name in store.names()]
    clear = list(SECRETS)
    clear += [bytes(vault._keys.key), vault._keys.nonce_key, vault._keys._set_key, b"r" * 32]
    return clear, sealed


def test_nothing_is_in_clear_after_use():
    for place in places():
        clear, sealed = used(place)
        check(not holds(place.raw(), clear))
        check(holds(place.raw(), sealed))


def test_nothing_is_left_after_a_wipe():
    for place in places():
        clear, sealed = used(place)
        vault = Vault(place.store(), RootKey())
        vault.open()
        wipe(vault)
        check(not holds(place.raw(), clear + sealed))
        # With the root key it is no more than an empty flash.
        raises("not-provisioned", Vault(place.store(), RootKey()).open)
        Vault(place.store(), RootKey()).create()


def test_a_wipe_of_an_unreadable_vault():
    """A damaged vault, or none: a wipe does not need to read it."""
    for place in places():
        clear, sealed = used(place)
        image = place.image()
        if isinstance(image, dict):
            for key in image:
                if key.endswith("0"):
                    image[key] = b"?" + image[key][1:]
        else:
            image = bytes(10) + image[10:]
        place.load(image)
        raises("vault-damaged", place.store().names)
        wipe(Vault(place.store(), RootKey()))
        check(not holds(place.raw(), clear + sealed))
        raises("not-provisioned", Vault(place.store(), RootKey()).open)


def test_a_store_that_fails_is_not_taken_for_a_damaged_one():
    for place in places():
        used(place)
        store = place.store()
        store.names()
        store._done = fails
        raises("filesystem", wipe, Vault(store, RootKey()))
        Vault(place.store(), RootKey()).open()


def fails(operation, *arguments):
    raise StoreError("filesystem", "the flash failed")


class PagesPlace(NvsPlace):
    """NVS with the pages below it, where what was erased lies on."""

    def __init__(self):
        self.part = NvsPages(3)

    def image(self):
        return self.part.image()

    def raw(self):
        return self.part.raw()

    def load(self, image):
        self.part.load(image)


def test_an_nvs_down_to_its_pages():
    place = PagesPlace()
    # Another program's settings in the same partition, which are to survive.
    place.part.set_blob("sta.ssid", b"somebody's network")
    clear, sealed = used(place)
    check(not holds(place.raw(), clear))
    live = place.part.blobs.values()
    stale = [one for one in sealed if not any([one in blob for blob in live])]
    check(
        len(stale) > 3 and holds(place.raw(), stale),
        "what was replaced lies on, or this test shows nothing",
    )
    store = place.store()
    wrapped = store.read("key", 100)
    wipe(Vault(store, RootKey()))
    check(not holds(place.raw(), clear + sealed + [wrapped]))
    equal(place.part.blobs, {"sta.ssid": b"somebody's network"})
    check(place.part.erases > 0)
    raises("not-provisioned", Vault(place.store(), RootKey()).open)
    used(place)


def test_an_nvs_wiped_and_cut():
    """Cut at each operation of the vault's removal, then at some that fill the pages."""
    place = PagesPlace()
    _, sealed = used(place)
    before = place.image()
    part = place.part
    part.operations = 0
    wipe(Vault(place.store(), RootKey()))
    total = part.operations
    found = {"open": 0, "wiped": 0, "not-provisioned": 0}
    for budget in spread(total, 24, 131) + [total - 2, total - 1]:
        place.load(before)
        vault = Vault(place.store(), RootKey())
        part.operations, part.budget = 0, budget
        try:
            wipe(vault)
            check(False, "it was not cut")
        except PowerCut:
            pass
        result = state(place)
        found[result] += 1
        if result != "open":
            finish(place.store())
            check(not holds(place.raw(), sealed), "cut at %d" % budget)
            equal(part.blobs, {})
    print("NVS with its pages, wipe: %d operations, cut: %s" % (total, found))
    check(found["open"] > 0 and found["wiped"] > 15)


def test_an_nvs_that_fails_while_it_is_filled():
    place = NvsPlace()
    used(place)
    place.part.set_i32 = fails_here
    raises("filesystem", wipe, Vault(place.store(), RootKey()))
    equal(state(place), "wiped")


def fails_here(key, value):
    raise OSError(-4353, "ESP_ERR_NVS_NOT_INITIALIZED")


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
        before = place.image()
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
                    check(not holds(place.raw(), sealed))
            operations += 1
        print(type(place).__name__, "wipe:", operations - 1, "operations,", found)
        check(operations > 5 and found["open"] > 0 and found["wiped"] > 0)
        equal(result, "not-provisioned")
