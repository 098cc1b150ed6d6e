"""An NVS that others have filled: Warden's next start finds room all the same."""

from board_model import PowerCut, RootKey
from harness import check, equal, raises
from nvs_pages_model import NvsPages
from warden.hal.store_nvs import NvsStore
from warden.vault import Vault
from warden.vault.secrets import Secrets


def store_on(part):
    store = NvsStore("warden", part)
    store.keep_reserve()
    return store


def fill(part):
    """What an application's own namespace does to the partition that all share."""
    number = 0
    for size in (1500, 200, 1):
        try:
            while True:
                while "app%d" % number in part.blobs:
                    number += 1
                part.set_blob("app%d" % number, bytes(size))
        except OSError as error:
            equal(error.args[0], -4357)


def booted(part):
    """A start: the vault opens, and its counter rises."""
    store = store_on(part)
    vault = Vault(store, RootKey())
    vault.open()
    return vault, vault.advance("boot")


def test_a_full_nvs_keeps_no_board_from_starting():
    """Neither the application's blobs nor its secrets nor a parked update fill the reserve."""
    part = NvsPages()
    store = store_on(part)
    vault = Vault(store, RootKey())
    vault.create()
    vault.commit({"a": b"x" * 600, "slots": bytes(300)})
    fill(part)
    for number in range(1, 30):
        vault, risen = booted(part)
        equal(risen, number)
        raises("vault-limit", Secrets(vault).set, "web", bytes(1024))
        raises("vault-limit", vault.commit, {"parked0": bytes(4096), "parked1": bytes(4096)})
        raises("vault-limit", vault.put, "a", bytes(1600))
        # The record that says which slot starts.
        vault.put("slots", bytes(300))
        equal((vault.get("a"), Secrets(vault).names()), (b"x" * 600, []))
        fill(part)


def test_a_full_nvs_and_the_power_cut_at_every_operation():
    cuts = 0
    while True:
        part = NvsPages()
        store = store_on(part)
        vault = Vault(store, RootKey())
        vault.create()
        vault.put("a", b"x" * 600)
        fill(part)
        vault, _ = booted(part)
        part.operations, part.budget = 0, cuts
        try:
            vault.advance("boot")
            break
        except PowerCut:
            cuts += 1
        part.power_up()
        vault, number = booted(part)
        check(number in (2, 3), number)
        for more in (1, 2):
            fill(part)
            vault, risen = booted(part)
            equal((risen, vault.get("a")), (number + more, b"x" * 600))
    check(cuts > 10, cuts)
