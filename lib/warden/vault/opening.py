"""Open a vault, or make one.

A start alone does that: the code is unloaded with that of the start (agent/device.py).
"""

from micropython import const

from ..crypto import ct
from ..crypto.ccm import CCM
from ..crypto.kdf import hkdf
from ..crypto.rand import random_bytes
from ..errors import PeerError, StoreError, UsageError
from ..wire import cbor
from .sealing import (
    COMMIT_LIMIT,
    FORMAT,
    MAX_RECORDS,
    OVERHEAD,
    VaultKeys,
    check_name,
    file_name,
    nonce_for,
    opened,
    read_blob,
    sealed,
)

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from . import RootKey, Store

_KEY_SIZE = const(32)
# Takes the place of a destroyed key: the wipe may still be under way.
WIPED = b"warden: wiped"


class Found:
    """What the flash holds: values of Vault with the same names.

    cache: records that were read on the way.
    """

    def __init__(self, keys: VaultKeys, fields: "Any") -> None:
        self.keys = keys
        _, self.generation, self.tag, self.counters, self.obsolete = fields
        self.current: "dict[str, int]" = {}
        self.cache: "dict[str, bytes]" = {}
        self.set = 0


def create(store: "Store", root: "RootKey | None") -> VaultKeys:
    """Make an empty vault. StoreError already-provisioned, wiped; UsageError closed."""
    if root is None:
        raise _dropped()
    _read_key(store)
    if store.read("commit", COMMIT_LIMIT) is not None:
        raise StoreError("already-provisioned", "this device has a vault: erase it first")
    root.create()
    for name in store.names():  # what an interrupted provisioning left
        store.remove(name)
    keys, wrapped = new_keys(root)
    write(store, "key", wrapped)
    return keys


def _dropped() -> UsageError:
    return UsageError("closed", "this vault let go of its root key: make another one")


def new_keys(root: "RootKey") -> "tuple[VaultKeys, bytes]":
    """Draw a new key for a vault; return (keys, the key wrapped under the root key)."""
    keys = VaultKeys(bytearray(random_bytes(_KEY_SIZE)))
    wrapping = root.mac(b"warden vault 1")
    nonce = nonce_for(hkdf(wrapping, b"warden vault nonce", 32), b"key", 0, keys.key)
    return keys, sealed(CCM(wrapping), nonce, keys.key, b"warden key 1")


def load(store: "Store", root: "RootKey | None", room: int) -> Found:
    """Verify the whole set, and remove what an interrupted change left.

    room: bytes of records to keep in the cache
    Raises StoreError: not-provisioned, root-key, vault-damaged, wiped; UsageError closed.
    """
    if root is None:
        raise _dropped()
    wrapped = _read_key(store)
    commit = store.read("commit", COMMIT_LIMIT)
    if commit is None:
        raise StoreError("not-provisioned", "this device has no vault: run `warden provision`")
    if wrapped is None:
        raise StoreError("vault-damaged", "the vault's key is gone")
    keys, body = _unlock(store, root, wrapped, commit)
    try:
        return _verify(store, keys, body, room)
    except Exception:  # of any kind: the key of a vault that does not open stays nowhere
        keys.close()
        raise


def _unlock(
    store: "Store", root: "RootKey", wrapped: bytes, commit: bytes
) -> "tuple[VaultKeys, bytearray]":
    """Return the keys and the commit's content. StoreError root-key, vault-damaged."""
    keys, body, known = _try_key(root, wrapped, commit)
    if keys is None or body is None:
        # A new root key was being given (vault/rekey.py): the commit under it exists, its key is
        # not in its place yet.
        wrapped = store.read("rekey", OVERHEAD + _KEY_SIZE) or b""
        keys, body, fits = _try_key(root, wrapped, commit)
        if keys is None or body is None:
            if known and (fits or not wrapped):
                raise StoreError("vault-damaged", "the commit record was changed")
            raise StoreError("root-key", "another board's vault, or a damaged root key")
        write(store, "key", wrapped)
    return keys, body


def _try_key(
    root: "RootKey", wrapped: bytes, commit: bytes
) -> "tuple[VaultKeys | None, bytearray | None, bool]":
    """Return the keys and the commit's content, or None twice where they don't open it.

    The third value tells whether the root key opened the wrapped key.
    """
    try:
        keys = VaultKeys(opened(CCM(root.mac(b"warden vault 1")), wrapped, b"warden key 1"))
    except StoreError:
        return None, None, False
    try:
        return keys, opened(keys.cipher(), commit, b"warden commit 1"), True
    except StoreError:
        keys.close()
        return None, None, True


def _verify(store: "Store", keys: VaultKeys, body: bytearray, room: int) -> Found:
    """Return what the flash holds, once it is what the commit says. StoreError vault-damaged."""
    try:
        fields: "Any" = cbor.decode(body)
    except PeerError:
        raise StoreError("vault-damaged", "the commit record makes no sense")
    # It authenticated, so another form means another version of Warden, not an attack.
    if not isinstance(fields, list) or len(fields) != 5 or fields[0] != FORMAT:
        raise StoreError("vault-damaged", "the vault was written by another version of Warden")
    found = Found(keys, fields)
    _sweep(store, found)
    for name, generation in found.current.items():
        blob = read_blob(store, name, generation)
        found.set ^= keys.contribution(name, generation, blob)
        room -= len(blob)
        if room >= 0:
            found.cache[name] = blob
    if not ct.equal(found.set.to_bytes(32, "big"), found.tag):
        raise StoreError("vault-damaged", "a record was removed, added or exchanged")
    return found


def write(store: "Store", file: str, data: bytes) -> None:
    """Write a record, and read it back. StoreError vault-unwritten."""
    store.write(file, data)
    if store.read(file, len(data)) != data:
        raise StoreError("vault-unwritten", "the flash did not keep the last change")


def _read_key(store: "Store") -> "bytes | None":
    """Return the wrapped key. StoreError wiped when it was destroyed on purpose."""
    wrapped = store.read("key", OVERHEAD + _KEY_SIZE)
    if wrapped == WIPED:
        raise StoreError("wiped", "this vault was wiped, and the rest of it has still to go")
    return wrapped


def _sweep(store: "Store", found: Found) -> None:
    """Find the current files, and remove those that a cut left of another generation."""
    current = found.current
    # After a new root key, everything older than the commit is obsolete.
    oldest, obsolete = 0, found.obsolete
    if isinstance(obsolete, int):
        oldest, obsolete = obsolete, ()
    for file in store.names():
        if file in ("key", "commit"):
            continue
        if file == "rekey":
            store.remove(file)
            continue
        name, generation = _split(file)
        if file in obsolete or not oldest <= generation <= found.generation:
            store.remove(file)
        elif name in current:
            raise StoreError("vault-damaged", "a record is there twice")
        elif len(current) >= MAX_RECORDS:
            raise StoreError("vault-damaged", "there are more records than a vault can hold")
        else:
            current[name] = generation


def _split(file: str) -> "tuple[str, int]":
    """Return name and generation of a record in the store. StoreError vault-damaged."""
    name, _, generation = file.rpartition(".")
    try:
        number = int(generation, 16)
        check_name(name)
    except (ValueError, UsageError):
        number = -1
    if number < 0 or file != file_name(name, number):
        raise StoreError("vault-damaged", "a file that is no record lies in the vault")
    return name, number
