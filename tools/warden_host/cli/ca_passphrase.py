"""Read the passphrase of the fleet's CA keys, where they have one."""

import sys
from pathlib import Path

import click

from warden_host.cli import secrets_input
from warden_host.fleet import pki, sealed_pem

option = click.option(
    "--passphrase-file",
    metavar="FILE",
    help="Read the passphrase of the CA's key from a file (mode 600), or from standard input: -. "
    "Default: ask, where the key has one.",
)


def new(file: str | None) -> bytes:
    """Return a new passphrase, asked for twice; raises passphrase-wrong, bad-argument."""
    return _read(file, new=True)


def from_file(file: str | None) -> bytes | None:
    """Return the passphrase in a file, or None without one."""
    return None if file is None else _read(file, new=False)


def for_key(path: Path, file: str | None) -> bytes | None:
    """Return the passphrase of a private key; None where the key has none.

    Asks at a terminal. Without a terminal and without a file it returns None, and opening the key
    raises passphrase-missing.
    """
    if not pki.is_sealed(path) or (file is None and not sys.stdin.isatty()):
        return None
    return _read(file, new=False)


def _read(file: str | None, new: bool) -> bytes:
    data = secrets_input.secret(
        file,
        "passphrase of the CA's key",
        "--passphrase-file",
        sealed_pem.MAX_PASSPHRASE,
        new,
    )
    sealed_pem.check_passphrase(data)
    return data
