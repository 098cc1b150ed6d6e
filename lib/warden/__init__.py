"""Warden: the security layer of a MicroPython device.

`from warden import Device`, or one feature alone: `from warden.vault import Vault`.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

__version__ = "0.1.0"


def unload(name: str, empty: bool = False) -> None:
    """Remove a module from sys.modules and from its package; do nothing if it is not loaded.

    name: full dotted name, written as one constant: the build for boards renames modules
    empty: whether to remove all that it defines, too; none of its functions may run afterwards.
      An address that an earlier call left on the C stack keeps a module else, for good: the
      application's main loop runs in an import, whose buffers are not overwritten.
    """
    module = sys.modules.pop(name, None)
    if empty and module is not None:
        module.__dict__.clear()
    package, _, last = name.rpartition(".")
    # Not by hasattr(): a package that loads its modules lazily would load it again.
    try:
        delattr(sys.modules[package], last)
    except (AttributeError, KeyError):  # MicroPython raises KeyError for the attribute, too
        pass


def interrupt(flag: "Any") -> "Callable[[Any], None]":
    """Return an interrupt handler that sets a ThreadSafeFlag.

    MicroPython keeps handlers that ran: one of a feature's own would hold all of its code.
    """
    return lambda _: flag.set()


def __getattr__(name: str) -> object:
    # Lazy, so that `from warden.vault import Vault` loads only what the vault needs.
    if name == "Device":
        from .agent.device import Device

        return Device
    if name == "Refused":
        from .session.command import Refused

        return Refused
    # A module that has __getattr__ loses MicroPython's own look-up of submodules in
    # `from warden import vault`.
    try:
        return __import__(__name__ + "." + name, None, None, (name,))
    except ImportError as error:
        # What that module imports may be missing too: umqtt, or a module of the firmware.
        if not str(error)[:-1].endswith(__name__ + "." + name):
            raise
        raise AttributeError(name)
