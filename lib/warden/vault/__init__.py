"""Sealed records and counters that only rise, on any store that keeps named records.

    vault = Vault(store, root_key)
    vault.open()
    vault.get("broker")

The store holds three kinds of record (formats: docs/formats.md):

key              the vault's own key, wrapped under a key of the root key: without it all is noise
NAME.GENERATION  a value, sealed under the vault's key, bound to its name and generation
commit           the generation, a tag over the whole set, the counters; the only one replaced

A change puts new records beside the old ones, then replaces `commit`: that last write is the
change. After a cut, records of a later generation than the commit's are swept at open, and so are
those that the commit names obsolete. The tag over the set means that no record can be dropped,
added or swapped for an older version of it. Nothing in the store can tell that the whole store was
played back; the authority sees it by `generation`, which each hello carries.
"""

from micropython import const

from ..crypto.kdf import hkdf, hmac_sha256
from ..errors import StoreError, UsageError, WardenError, ensure
from ..wire import cbor
from .sealing import (
    COMMIT_LIMIT,
    FORMAT,
    MAX_RECORDS,
    check_name,
    file_name,
    nonce_for,
    opened,
    read_blob,
    record_aad,
    sealed,
)

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Protocol, Sequence

    from .sealing import VaultKeys

    Puts = Sequence[tuple[str, bytes]]

    class Store(Protocol):
        def names(self) -> "list[str]": ...
        def read(self, name: str, limit: int) -> "bytes | None": ...
        def write(self, name: str, data: bytes) -> None: ...
        def remove(self, name: str) -> None: ...
        def change(self, puts: "Puts", removes: "Sequence[str]") -> None: ...
        def erase_all(self) -> None: ...

    class RootKey(Protocol):
        def create(self) -> None: ...
        def mac(self, message: bytes) -> bytes: ...
        def close(self) -> None: ...


MAX_VALUE = 4096  # bytes of one value
COUNTER_MAX = (1 << 32) - 1
_CACHE = const(4096)  # bytes of sealed records that open() keeps


class Vault:
    """Records {name: bytes} and counters {name: int} of one device."""

    def __init__(self, store: "Store", root_key: "RootKey") -> None:
        self.store = store
        self._root: "RootKey | None" = root_key
        self._keys: "VaultKeys | None" = None
        self._current: "dict[str, int]" = {}  # name -> generation of the file that holds it
        self._cache: "dict[str, bytes]" = {}  # records that open() read, until get() or a commit
        self._set = 0
        self.counters: "dict[str, int]" = {}
        self.generation = 0

    def create(self) -> None:
        """Make an empty vault. Until the first commit the store counts as not provisioned."""
        from . import opening

        self._keys = opening.create(self.store, self._root)
        self._current, self.counters, self.generation, self._set = {}, {}, 0, 0

    def open(self, keep: bool = False) -> None:
        """Verify the whole set, and remove what an interrupted change left.

        keep: get() hands out once what was read here, until the first commit.
        Raises StoreError: not-provisioned, root-key, vault-damaged, wiped.
        """
        from . import opening

        try:
            found = opening.load(self.store, self._root, _CACHE if keep else 0)
        except Exception:  # any at all: a half-open vault would give zeros for its counters
            self.close()
            raise
        self._keys, self.generation, self.counters = found.keys, found.generation, found.counters
        self._current, self._cache, self._set = found.current, found.cache, found.set

    def close(self) -> None:
        """Wipe what can be wiped in RAM. Every later call is a UsageError."""
        if self._keys is not None:
            self._keys.close()
        self._keys = None
        if self._root is not None:
            self._root.close()
        self._current, self.counters, self._cache = {}, {}, {}

    def drop_root_key(self) -> None:
        """Wipe the root key of an open vault, and let go of its code: it opens no second time."""
        if self._root is not None:
            self._root.close()
        self._root = None

    def names(self) -> "list[str]":
        self._open_keys()
        return list(self._current)

    def get(self, name: str) -> "bytes | None":
        """Return a record's value, or None. StoreError vault-damaged when it was changed."""
        keys = self._open_keys()
        generation = self._current.get(name)
        if generation is None:
            return None
        blob = self._cache.pop(name, None) or read_blob(self.store, name, generation)
        return bytes(opened(keys.cipher(), blob, record_aad(name, generation)))

    def counter(self, name: str) -> int:
        self._open_keys()
        return self.counters.get(name, 0)

    def mac(self, *parts: bytes) -> bytes:
        """Return HMAC-SHA-256 of the joined parts, 32 bytes, for what is kept outside of the
        vault.

        The key is the vault's own, and changes with it.
        """
        key = self._open_keys().key
        return hmac_sha256(hkdf(key, b"warden vault mac", 32), *parts)

    def put(self, name: str, value: bytes) -> None:
        self.commit({name: value})

    def delete(self, name: str) -> None:
        """Remove a record; it need not exist."""
        self._open_keys()
        if name in self._current:
            self.commit({name: None})

    def advance(self, name: str, to: "int | None" = None) -> int:
        """Raise a counter, and return its value once the flash gave it back.

        to: the new value, above the old one; None for one more.
        """
        value = self.counter(name) + 1 if to is None else to
        self.commit({}, {name: value})
        return value

    def commit(
        self, changes: "dict[str, bytes | None]", counters: "dict[str, int] | None" = None
    ) -> None:
        """Apply all changes and all counters, or none of them: the last write decides.

        changes: {name: value, or None to delete}; at most 4,096 bytes a value.
        counters: {name: new value}, each above its old one.

        Raises UsageError bad-argument, bad-name, closed; StoreError counter-limit, vault-limit
        (nothing has changed), and what the store refuses: then the vault is closed, and the next
        open() finds the old or the new state.
        """
        keys = self._open_keys()
        self._cache = {}
        cipher = keys.last_cipher()
        risen = dict(self.counters)
        for name, number in (counters or {}).items():
            check_name(name)
            if number <= risen.get(name, 0):
                raise UsageError("bad-argument", "a counter only rises")
            if number > COUNTER_MAX:
                raise StoreError("counter-limit", "a counter of the vault is used up")
            risen[name] = number
        current = dict(self._current)
        for name, value in changes.items():
            check_name(name)
            if value is None:
                current.pop(name, None)
                continue
            ensure(len(value) <= MAX_VALUE, "bad-argument", "a value has at most 4096 bytes")
            current[name] = 0
        if len(current) > MAX_RECORDS or self.generation >= COUNTER_MAX:
            raise StoreError("vault-limit", "the vault is full")

        # From the first write on, an exception leaves flash and RAM apart: the vault closes, and
        # the next open() heals.
        generation = self.generation + 1
        obsolete: "list[str]" = []
        puts: "list[tuple[str, bytes]]" = []
        try:
            tag = self._set
            for name, value in changes.items():
                old = self._current.get(name)
                if old is not None:
                    tag ^= keys.contribution(name, old, read_blob(self.store, name, old))
                    obsolete.append(file_name(name, old))
                if value is not None:
                    nonce = nonce_for(keys.nonce_key, name.encode(), generation, value)
                    blob = sealed(cipher, nonce, value, record_aad(name, generation))
                    puts.append((file_name(name, generation), blob))
                    tag ^= keys.contribution(name, generation, blob)
                    current[name] = generation
            body = cbor.encode([FORMAT, generation, tag.to_bytes(32, "big"), risen, obsolete])
            nonce = nonce_for(keys.nonce_key, b"commit", generation, body)
            record = sealed(cipher, nonce, body, b"warden commit 1")
            if len(record) > COMMIT_LIMIT:
                raise StoreError("vault-limit", "too many changes at once")
            # The store reads each record back while the old ones still stand: one that the flash
            # lost would cost the whole vault.
            puts.append(("commit", record))
            self.store.change(puts, obsolete)
            # Once more before it counts, whatever the store says: a counter that the flash lost
            # would be given out twice.
            self._check("commit", record)
        except StoreError as error:
            if error.code != "vault-limit" or not self._undo(puts):
                self.close()
            raise
        except Exception:  # any at all: the state on flash is unknown until open() looks again
            self.close()
            raise
        self._current, self.counters, self.generation, self._set = current, risen, generation, tag

    def _undo(self, puts: "Puts") -> bool:
        """Remove what was written of a change that found no room.

        Return whether the state before it holds, on flash and in RAM.
        """
        try:
            commit = self.store.read("commit", COMMIT_LIMIT)
            generation = 0
            if commit is not None:
                fields: "Any" = cbor.decode(
                    opened(self._open_keys().cipher(), commit, b"warden commit 1")
                )
                generation = fields[1]
            if generation != self.generation:
                return False
            for name, _ in puts:
                if name != "commit":
                    self.store.remove(name)
            return True
        except WardenError:
            return False

    def _open_keys(self) -> "VaultKeys":
        if self._keys is None:
            raise UsageError("closed", "the vault is closed: open it again")
        return self._keys

    def _check(self, file: str, data: bytes) -> None:
        if self.store.read(file, len(data)) != data:
            raise StoreError("vault-unwritten", "the flash did not keep the last change")
