"""Warden: the security layer of a MicroPython device. `from warden import Device`, or any feature alone: `from warden.vault import Vault`."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Lazy, so that `from warden.vault import Vault` loads only what the vault needs.
    if name == "Device":
        from .agent.device import Device

        return Device
    # A module that has __getattr__ loses MicroPython's own look-up of submodules in `from warden import vault`.
    try:
        return __import__(__name__ + "." + name, None, None, (name,))
    except ImportError as error:
        # What that module imports may be missing too: umqtt, or a module of the firmware.
        if not str(error)[:-1].endswith(__name__ + "." + name):
            raise
        raise AttributeError(name)
