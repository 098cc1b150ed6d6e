"""The part of fleet.db that `warden devices` reads: it is given often, and loads no more."""

from warden_host.store.devices import Devices
from warden_host.store.groups import Groups
from warden_host.store.incidents import Incidents


class Listing(Devices, Groups, Incidents):
    """Devices, groups and incidents of an open fleet.db, for one thread."""
