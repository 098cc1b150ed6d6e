"""Secrets that a person types: from a file, standard input or a hidden prompt. Never an argument: other processes see those."""

import sys
from pathlib import Path

import click

from warden_host import secretfile
from warden_host.errors import HostError

_LINE_END = 2


def secret(file: str | None, what: str, option: str, most: int, new: bool) -> bytes:
    """Its bytes, without the line's end. file: a path, "-" for standard input, None to ask, twice for a new one.

    most: how long it may be, which is the caller's to check; here it bounds what is read. Standard input is read no
    further than that and a line's end, and a file that goes further is refused.
    Raises bad-argument, also where nobody is there to ask; key-missing, key-permissions.
    """
    if file is None:
        if not sys.stdin.isatty():
            raise HostError(
                "bad-argument", f"nobody is there to ask for a {what}", f"{option} FILE"
            )
        prompt = what[0].upper() + what[1:]
        asked = click.prompt(prompt, hide_input=True, confirmation_prompt=new, err=True)
        data = str(asked).encode()
    elif file == "-":
        data = sys.stdin.buffer.read(most + _LINE_END)
    else:
        data = secretfile.read(Path(file), most + _LINE_END, "bad-argument")
    return data.removesuffix(b"\n").removesuffix(b"\r")
