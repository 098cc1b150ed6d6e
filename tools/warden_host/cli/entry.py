"""Start `warden`: Ctrl-C ends it without a traceback from here on, also while it imports."""

import signal
import sys

_ABORTED = "\naborted: nothing more was done\n"
_ABORTED_JSON = (
    '{"ok": false, "error": {"code": "interrupted", "kind": "interrupted", '
    '"text": "ended before it began", "hint": ""}}\n'
)


def main() -> None:
    """Run as the console script. Exit codes: see exit_codes.py."""
    try:
        from warden_host.cli import main as command_line

        code = command_line.call(sys.argv[1:])
    except KeyboardInterrupt:  # before the commands are there to say more
        code = 130
        if "--json" in sys.argv:
            sys.stdout.write(_ABORTED_JSON)
        else:
            sys.stderr.write(_ABORTED)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter ends: nothing is left to stop
    sys.exit(code)
