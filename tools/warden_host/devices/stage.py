"""A step of a change of a device: a slug for scripts, and what people read."""

from collections.abc import Callable


class Stage(str):
    """The text of a step. slug: names it for scripts, and stays the same when the text changes."""

    __slots__ = ("slug",)
    slug: str

    def __new__(cls, slug: str, text: str) -> "Stage":
        made = super().__new__(cls, text)
        made.slug = slug
        return made


# Shows a step as it is reached.
Report = Callable[[Stage], None]
