"""Warden: the security layer of a MicroPython device.

`from warden import Device`, or one feature alone: `from warden.vault import Vault`.
"""

import sys

__version__ = "0.1.0"


def unload(name: str) -> None:
    """Remove a module from sys.modules and from its package; do nothing if it is not loaded.

    name: full dotted name, written as one constant: the build for boards renames modules
    """
    sys.modules.pop(name, None)
    package, _, module = name.rpartition(".")
    # Not by hasattr(): a package that loads its modules lazily would load it again.
    try:
        delattr(sys.modules[package], module)
    except (AttributeError, KeyError):  # MicroPython raises KeyError for the attribute, too
        pass


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
