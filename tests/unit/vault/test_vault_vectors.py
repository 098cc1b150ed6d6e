"""Read vaults of format version 1 in every store; an independent program wrote them."""

import json

from board_model import DictStore, RootKey
from harness import check, equal
from nor_model import Nor
from nvs_model import Nvs
from warden.hal.store_flash import FlashStore
from warden.hal.store_nvs import NvsStore
from warden.vault import Vault

PURE = True
FOLDER = __file__.rsplit("/", 1)[0] + "/../../vectors/"


def load(kind):
    with open(FOLDER + "vault-v1-%s.json" % kind) as file:
        return json.load(file)


def whole(vector, store):
    """The vault in this store is what the vector says, and takes a change."""
    vault = Vault(store, RootKey(bytes.fromhex(vector["root_key"])))
    vault.open()
    equal(vault.generation, vector["generation"])
    equal(sorted(vault.names()), sorted(vector["records"]))
    for name in vector["records"]:
        equal(vault.get(name), bytes.fromhex(vector["records"][name]))
    for name in vector["counters"]:
        equal(vault.counter(name), vector["counters"][name])
    vault.put("broker", b"another")
    equal(vault.advance("boot"), vector["counters"]["boot"] + 1)
    equal(vault.get("broker"), b"another")
    check(sorted(vault.names()) == sorted(vector["records"]))


def test_files():
    vector = load("file")
    for files in vector["stored"].values():
        whole(vector, DictStore({name: bytes.fromhex(files[name]) for name in files}))


def test_flash():
    vector = load("flash")
    equal(len(vector["stored"]), 4)
    for title in vector["stored"]:
        stored = vector["stored"][title]
        part = Nor(stored["sectors"], stored["sector"], stored["unit"])
        for at in stored["image"]:
            data = bytes.fromhex(stored["image"][at])
            part.data[int(at) : int(at) + len(data)] = data
        whole(vector, FlashStore(part, stored["unit"], stored["banks"]))
        # The ones that a cut ended were copied to another bank at once.
        equal(sum(part.erases) > 0, "cut" in title, title)


def test_nvs():
    vector = load("nvs")
    for blobs in vector["stored"].values():
        part = Nvs({key: bytes.fromhex(blobs[key]) for key in blobs})
        whole(vector, NvsStore("warden", part))
