"""The broker that a fleet uses: outside mosquitto's own package only this module names it.

Another broker gives the same names: Broker runs the process, create_registry and open_registry
change accounts (accounts.Registry), registry_lock keeps others from it, Guard disables an account
at once, Places knows from where clients logged in, find_program raises broker-missing, is_running
says whether it runs on this machine, MAX_PACKET is in bytes, largest_packet() what the fleet's
broker takes, wanted_listeners() returns the listeners for the fleet's devices. For checks:
program_version() is that of the installed program, outdated_settings() and weak_accounts() are
those of inspect.py.
"""

from warden_host.broker.mosquitto.attempts import Attempt
from warden_host.broker.mosquitto.attempts import Kind as AttemptKind
from warden_host.broker.mosquitto.broker import (
    MAX_PACKET,
    Broker,
    is_running,
    largest_packet,
    read_refused_logins,
    wanted_listeners,
)
from warden_host.broker.mosquitto.broker import find_binary as find_program
from warden_host.broker.mosquitto.broker import version as program_version
from warden_host.broker.mosquitto.guard import Guard
from warden_host.broker.mosquitto.inspect import outdated_settings, weak_accounts
from warden_host.broker.mosquitto.logins import LOGIN, RefusedLogin
from warden_host.broker.mosquitto.places import Places
from warden_host.broker.mosquitto.registry import create as create_registry
from warden_host.broker.mosquitto.registry import exclusive_access as registry_lock
from warden_host.broker.mosquitto.registry import opened as open_registry

__all__ = (
    "LOGIN",
    "MAX_PACKET",
    "Attempt",
    "AttemptKind",
    "Broker",
    "Guard",
    "Places",
    "RefusedLogin",
    "create_registry",
    "find_program",
    "is_running",
    "largest_packet",
    "open_registry",
    "outdated_settings",
    "program_version",
    "read_refused_logins",
    "registry_lock",
    "wanted_listeners",
    "weak_accounts",
)
