"""How a request came: when, and whether a person asked; for what answers it (web/guard.py)."""

from contextvars import ContextVar

# When the request began, as `watch` takes it: what happens from then on is not in its page.
began: ContextVar[int] = ContextVar("began", default=0)
# Whether a page asks by itself: such a request keeps no session from its idle end.
unasked: ContextVar[bool] = ContextVar("unasked", default=False)
UNASKED = "unasked=1"  # in an address that a page of ours loads by itself
