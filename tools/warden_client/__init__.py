"""An application of its own in a Warden fleet: sessions, events and commands, over asyncio.

Entry points: Application, which a program uses (docs/applications.md); protocol, the sealed and
the plain protocol without I/O, which the host's tool uses too.
May import: nothing of the project. Every package of the host may import protocol and the modules
that have no connection.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warden_client.answers import Event, Reply
    from warden_client.application import Application
    from warden_client.errors import HostError

__all__ = ["Application", "Event", "HostError", "Reply"]
_MODULES = {"HostError": "errors", "Event": "answers", "Reply": "answers"}


def __getattr__(name: str) -> Any:
    """Load the connection only for a program that has one: the tool imports parts alone."""
    if name not in __all__:
        raise AttributeError(name)
    from importlib import import_module

    module = import_module("warden_client." + _MODULES.get(name, "application"))
    return getattr(module, name)
