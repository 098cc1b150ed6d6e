"""Files that hold secrets: how large they may be, and that none is read in part."""

import io
import os
import sys

import pytest
from cli_kit import fails
from host_kit import new_fleet, refused
from warden_client import secretfile
from warden_host.broker.accounts import wipe_only_account
from warden_host.broker.mosquitto import dynsec
from warden_host.cli import secrets_input


def secret(folder, size: int):
    path = folder / "secret"
    secretfile.write(path, b"s" * size)
    return path


def test_a_file_is_read_whole_or_not_at_all(tmp_path):
    assert len(secretfile.read(secret(tmp_path, 100), 100)) == 100
    with refused("key-damaged"):
        secretfile.read(secret(tmp_path, 101), 100)
    with refused("registry-damaged"):
        secretfile.read(secret(tmp_path, 101), 100, "registry-damaged")
    most = secretfile.MAX_BYTES
    assert len(secretfile.read(secret(tmp_path, most))) == most
    with refused("key-damaged"):
        secretfile.read(secret(tmp_path, most + 1))


def test_what_is_no_file_of_its_owner_is_not_read(tmp_path, monkeypatch):
    pipe, closed = tmp_path / "pipe", []
    os.mkfifo(pipe, 0o600)
    with monkeypatch.context() as patched:
        close = os.close
        patched.setattr(os, "close", lambda descriptor: closed.append(close(descriptor)))
        for path in (pipe, tmp_path):
            with refused("key-permissions") as error:
                secretfile.read(path)  # and does not wait for a writer
            assert "is not a regular file" in str(error)
    assert len(closed) == 2
    path = secret(tmp_path, 1)
    (tmp_path / "link").symlink_to(path)
    with refused("key-permissions"):
        secretfile.read(tmp_path / "link")
    path.chmod(0o604)
    with refused("key-permissions"):
        secretfile.read(path)
    path.chmod(0o600)
    assert secretfile.read(path) == b"s"
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with refused("key-permissions") as error:
        secretfile.read(path)
    assert "belongs to another user" in str(error)


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = secret(tmp_path, 5)

    def fails(*_):
        raise OSError(28, "No space left on device")

    for part in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, part, fails)
            with pytest.raises(OSError, match="No space"):
                secretfile.write(path, b"other")
        assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], b"s" * 5)


@pytest.fixture
def one_hash(monkeypatch):
    """The passwords are not what these are about: 10,000 times PBKDF2 take minutes."""
    made = dynsec.password_fields("x")
    monkeypatch.setattr(dynsec, "password_fields", lambda _: made)


def test_the_registry_of_a_large_fleet(tmp_path, one_hash):
    """Of the longest names, each about to be wiped: the largest account there is."""
    made = new_fleet(tmp_path)
    document = dynsec.load(made.broker)
    for number in range(10_000):
        dynsec.add(document, wipe_only_account("t" * 32, f"{number:032}"))
    dynsec.save(made.broker, document)
    size = (made.broker / dynsec.FILE).stat().st_size
    assert 2 * size < dynsec.MAX_REGISTRY
    assert len(dynsec.load(made.broker)["clients"]) == 10_002  # the administrator, the authority


def test_a_registry_beyond_its_limit_is_reported(folder, capsys, monkeypatch):
    path = folder / "broker" / dynsec.FILE
    before = path.read_bytes()
    monkeypatch.setattr(dynsec, "MAX_REGISTRY", len(before) - 1)
    fails(capsys, "registry-damaged", "provision", "D1", "--sim")
    assert path.read_bytes() == before
    monkeypatch.setattr(dynsec, "MAX_REGISTRY", len(before))
    dynsec.load(path.parent)


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_no_more_of_what_is_typed_than_may_be(tmp_path, monkeypatch):
    for text, meant in (
        (b"s" * 10 + b"\r\n", b"s" * 10),
        (b"s" * 10 + b"\n", b"s" * 10),
        (b"s" * 12, b"s" * 12),  # too long: what reads it says so
        (b"", b""),
    ):
        secretfile.write(tmp_path / "secret", text)
        assert (
            secrets_input.secret(str(tmp_path / "secret"), "PIN", "--pin-file", 10, False) == meant
        )
        monkeypatch.setattr(sys, "stdin", Stdin(text))
        assert secrets_input.secret("-", "PIN", "--pin-file", 10, False) == meant
    long = secret(tmp_path, 13)
    with refused("bad-argument"):
        secrets_input.secret(str(long), "PIN", "--pin-file", 10, False)
    monkeypatch.setattr(sys, "stdin", Stdin(b"s" * 13))
    assert len(secrets_input.secret("-", "PIN", "--pin-file", 10, False)) == 12
