"""A display of two lines on the console: DISPLAY = ("console",)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make(_: "Any") -> "Display":
    return Display()


class Display:
    """Any display has this one method."""

    def lines(self, first: str, second: str) -> None:
        """Show two lines of at most 16 characters."""
        print("display %s|%s" % (first, second))
