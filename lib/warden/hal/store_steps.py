"""What stores share that replace one record at a time."""

from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Sequence


class StepStore:
    """A store whose write() and remove() are old-or-new each, but not several of them together."""

    def read(self, name: str, limit: int) -> "bytes | None":
        raise NotImplementedError

    def write(self, name: str, data: bytes) -> None:
        raise NotImplementedError

    def remove(self, name: str) -> None:
        raise NotImplementedError

    def change(self, puts: "Sequence[tuple[str, bytes]]", removes: "Sequence[str]") -> None:
        """Put these in their order, each read back before the next, then remove those.

        A cut leaves any number of these steps done: the last put makes the others count.
        """
        for name, data in puts:
            self.write(name, data)
            if self.read(name, len(data)) != data:
                raise StoreError("vault-unwritten", "the flash did not keep the last change")
        for name in removes:
            self.remove(name)
