"""The broker that a fleet uses: outside mosquitto's own package only this module names it.

Another broker gives the same names: Broker runs the process, create_registry and open_registry
change accounts (accounts.Registry), find_program raises broker-missing, MAX_PACKET is in bytes.
"""

from warden_host.broker.mosquitto.broker import MAX_PACKET, Broker
from warden_host.broker.mosquitto.broker import find_binary as find_program
from warden_host.broker.mosquitto.registry import create as create_registry
from warden_host.broker.mosquitto.registry import opened as open_registry

__all__ = ("MAX_PACKET", "Broker", "create_registry", "find_program", "open_registry")
