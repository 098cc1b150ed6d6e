"""A fleet that can sign releases, and releases to sign. scrypt is made cheap, where its cost is
not what a test is about."""

from pathlib import Path

import pytest
from host_kit import new_fleet
from warden_host.fleet import sealed_pem
from warden_host.fleet.fleet import Fleet
from warden_host.release import release, signing_key
from warden_host.release.release import Made
from warden_host.release.signing_key import ReleaseKey
from warden_host.store.store import Store

PASSPHRASE = b"correct horse battery"
TYPE = "relay"


def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_pem, "_N", 1 << 4)


class Maker:
    """A fleet with one key, `release`, and its private part open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet: Fleet = new_fleet(folder)
        self.key: ReleaseKey = signing_key.make(self.fleet, "release", "p256", PASSPHRASE)
        self.private = signing_key.open_private(self.fleet, self.key, PASSPHRASE)
        self.store = Store(self.fleet.database)

    def app(self, name: str = "app", size: int = 5000) -> Path:
        made = self.folder / name
        made.mkdir(exist_ok=True)
        (made / "app.py").write_text(f"print({name!r})\n")
        (made / "filler.bin").write_bytes(bytes(range(256)) * (size // 256))
        return made

    def make(self, version: str = "1.0", private=None, unsigned: bool = False, **changes) -> Made:
        components = changes.pop("components", None) or {"app": self.app()}
        order = release.Order(TYPE, version, components, **changes)
        key = None if unsigned else private or self.private
        return release.make(self.fleet, self.store, order, key, changes.get("algorithm", "ES256"))
