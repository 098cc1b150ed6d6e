"""What stores share that replace one record at a time."""

from micropython import const

from ..errors import StoreError

_RECORD = const(8192)  # more than any record has
# Bytes that a change may add to the records in the reserve's room: a start that counts a first
# failure, or the first try of a network, adds less.
_MOST_GROWTH = const(256)

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Sequence


class StepStore:
    """A store whose write() and remove() are old-or-new each, but not several of them together.

    give_reserve() and keep_reserve() are for one whose medium others may fill: an application that
    does so must not keep the board from starting, which raises a counter each time.
    """

    def read(self, name: str, limit: int) -> "bytes | None":
        raise NotImplementedError

    def write(self, name: str, data: bytes) -> None:
        raise NotImplementedError

    def remove(self, name: str) -> None:
        raise NotImplementedError

    def give_reserve(self) -> bool:
        """Free the room that keep_reserve() keeps; return whether there was any."""
        return False

    def keep_reserve(self) -> None:
        """Keep room for the next change, as far as there is any."""

    def change(self, puts: "Sequence[tuple[str, bytes]]", removes: "Sequence[str]") -> None:
        """Put these in their order, each read back before the next, then remove those.

        A cut leaves any number of these steps done: the last put makes the others count. Where
        there is no room, the steps are done again in that of the reserve, unless they take more
        than they free: the reserve would not come back, and it is for the next start.
        """
        try:
            self._put_and_remove(puts, removes)
        except StoreError as error:
            if (
                error.code != "vault-limit"
                or self._growth(puts, removes) > _MOST_GROWTH
                or not self.give_reserve()
            ):
                raise
            try:
                self._put_and_remove(puts, removes)
            finally:
                self.keep_reserve()

    def _growth(self, puts: "Sequence[tuple[str, bytes]]", removes: "Sequence[str]") -> int:
        """Return how many bytes more the records have after the change."""
        growth = 0
        for _, data in puts:
            growth += len(data)
        # The last put, the commit, replaces the record of its name; the others have new names.
        for name in list(removes) + [puts[-1][0]] if puts else removes:
            growth -= len(self.read(name, _RECORD) or b"")
        return growth

    def _put_and_remove(
        self, puts: "Sequence[tuple[str, bytes]]", removes: "Sequence[str]"
    ) -> None:
        for name, data in puts:
            self.write(name, data)
            if self.read(name, len(data)) != data:
                raise StoreError("vault-unwritten", "the flash did not keep the last change")
        for name in removes:
            self.remove(name)
