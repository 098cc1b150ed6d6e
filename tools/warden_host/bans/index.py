"""Find fast whether one of many networks holds an address."""

from bisect import bisect_right
from collections.abc import Iterable

from warden_host.bans.networks import Network, collapse


class NetworkIndex:
    """An unchanging set of networks; `network in index` takes a few comparisons."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._first: dict[int, list[int]] = {4: [], 6: []}
        self._last: dict[int, list[int]] = {4: [], 6: []}
        for one in collapse(networks):  # in order, and none overlaps another
            self._first[one.version].append(int(one.network_address))
            self._last[one.version].append(int(one.broadcast_address))

    def __contains__(self, network: Network) -> bool:
        """Return whether one of the networks holds all of this one."""
        place = bisect_right(self._first[network.version], int(network.network_address))
        return place > 0 and self._last[network.version][place - 1] >= int(
            network.broadcast_address
        )
