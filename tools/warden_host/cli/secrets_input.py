"""Read secrets from a file, standard input or a hidden prompt.

Never from an argument, which other processes can see.
"""

import sys
from pathlib import Path

import click
from warden_client import secretfile

from warden_host.errors import HostError

_LINE_END = 2


def secret(file: str | None, what: str, option: str, most: int, new: bool) -> bytes:
    """Return the bytes of a secret without the line's end.

    file: a path, "-" for standard input, None to prompt.
    what: the secret's name in the prompt. option: the option that names a file.
    most: limit of bytes to read, plus a line's end; a longer file is refused, standard input is
    cut,
    and the caller checks the length.
    new: prompt twice.
    Raises bad-argument, also without a terminal to prompt on; key-missing, key-permissions.
    """
    if file is None:
        check_terminal(what, option)
        prompt = what[0].upper() + what[1:]
        asked = click.prompt(prompt, hide_input=True, confirmation_prompt=new, err=True)
        data = str(asked).encode()
    elif file == "-":
        data = sys.stdin.buffer.read(most + _LINE_END)
    else:
        data = secretfile.read(Path(file), most + _LINE_END, "bad-argument")
    return data.removesuffix(b"\n").removesuffix(b"\r")


def check_terminal(what: str, option: str) -> None:
    """Raise bad-argument where there is no terminal to ask for a secret."""
    if not sys.stdin.isatty():
        raise HostError(
            "bad-argument", f"there is no terminal to ask for a {what}", f"{option} FILE"
        )
