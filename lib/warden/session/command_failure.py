"""Say why the handler of a command failed. inbox.py loads it when one does."""

import io
import sys

from micropython import const

from ..errors import PeerError
from .command import Refused

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable


def explain(
    error: Exception, command: str, is_own: bool, log: "Callable[[str, str], None]"
) -> str:
    """Log what a handler raised, and return the code for its reply.

    is_own: whether it is one of the agent's own commands. Raises what the error's own code or text
    raises, MemoryError too.
    """
    if isinstance(error, Refused):
        # Checked again: a subclass or the handler may have set any value.
        code = Refused(error.code).code
        log("command-refused", "%s: %s" % (command, code))
        return code
    if is_own and isinstance(error, PeerError):
        text, code = repr(error), error.code
    else:
        # For the log alone: it may hold what the command carried.
        lines = io.StringIO()
        sys.print_exception(error, lines)
        text, code = lines.getvalue(), "command-failed"
    log(code, "%s: %s" % (command, text))
    return code
