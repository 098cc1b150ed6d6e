"""Put a new package in the place of the one that is installed, for firmware/boot.py.

The host writes the new package to /lib~part, a new boot.py and main.py beside their names with a
"~", and renames /lib~part to /lib~ last: from then on the new package is complete, and the board's
own to install. Each rename stays within one folder, so littlefs does it in one write; each step
that was done is passed over by the next start, until the last one ends it.
"""

import os

from micropython import const

_FOLDER = const(0x4000)  # the type of a folder in os.ilistdir()


def replace(root: str = "") -> None:
    """Put /lib~ in the place of /lib, with boot.py and main.py. A power cut: call it again."""
    names = os.listdir(root + "/")
    if "lib" in names:
        _remove(root + "/lib")
    for name in ("main.py", "boot.py"):
        if name + "~" in names:
            os.rename(root + "/" + name + "~", root + "/" + name)
    os.rename(root + "/lib~", root + "/lib")


def _remove(folder: str) -> None:
    for entry in list(os.ilistdir(folder)):
        path = folder + "/" + entry[0]
        if entry[1] == _FOLDER:
            _remove(path)
        else:
            os.remove(path)
    os.rmdir(folder)
