"""Unload Warden's own modules: the memory of code that has done its work is free for the next.

What was defined in an unloaded module and is still referenced lives on, with the code that it needs.
"""

import sys


def unload(name: str) -> None:
    """Remove a module from sys.modules and from the package that holds it; do nothing where it is not loaded.

    name: its full dotted name, written as one constant: the build for boards renames modules.
    """
    sys.modules.pop(name, None)
    package, _, module = name.rpartition(".")
    # Not by hasattr(): a package that loads its modules lazily would load it again.
    try:
        delattr(sys.modules[package], module)
    except (AttributeError, KeyError):  # MicroPython raises KeyError for the attribute, too
        pass
