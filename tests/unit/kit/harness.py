"""The smallest test harness that runs alike on a board, on the unix port and under CPython.

A test is a function `test_…` in `tests/unit/PACKAGE/test_….py`. It uses check(), equal() and
raises(), never `assert`, which -O deletes. `PURE = True` in a module says that it also runs under
CPython, with `tests/cpython` in the place of MicroPython's modules.

    micropython tests/unit/run.py test_cbor     prints a line a test, exits with 1 if one failed
"""

import sys

# Folders of tests/unit, one for each package of the device and `base` for what lies above them.
# Test modules import each other by their bare names, which are therefore unique.
FOLDERS = (
    "agent base board crypto gate hal net ota policy provisioning rotation session token vault wire"
).split()
_count = [0]
# Whether this is the build for boards, as the target `built` says: its errors have codes alone,
# and modules share files.
built = False


class Failed(Exception):
    """A check did not hold."""


class Skipped(Exception):
    """The interpreter lacks what the test needs."""


def need(*names):
    """Skip the running test where this interpreter lacks one of the names: "vfs" for a module,
    "vfs.VfsRom" for what is in it."""
    for name in names:
        module, _, attribute = name.partition(".")
        try:
            found = __import__(module)
        except ImportError:
            found = None
        if found is None or (attribute and not hasattr(found, attribute)):
            raise Skipped("this interpreter has no " + name)


def check(condition, text=""):
    """Fail the running test unless `condition` is true."""
    _count[0] += 1
    if not condition:
        raise Failed(text or "the condition is false")


def equal(got, wanted, text=""):
    """Fail unless both are equal, and show both."""
    _count[0] += 1
    if got != wanted:
        raise Failed("%s got %r, wanted %r" % (text, got, wanted))


def raises(code, function, *args, **keywords):
    """Call the function and fail unless it raises a WardenError with exactly this code.

    Returns the error.
    """
    from warden.errors import WardenError

    _count[0] += 1
    try:
        result = function(*args, **keywords)
    except WardenError as error:
        if error.code != code:
            raise Failed("got %s, wanted %s" % (error, code))
        return error
    raise Failed("returned %r, wanted the error %s" % (result, code))


def link_failure(code):
    """Return the error that a connection which failed with this code raises."""
    from warden.errors import LinkError, PeerError

    lost = code in ("unreachable", "link-timeout", "link-closed", "busy")
    return (LinkError if lost else PeerError)(code)


def has_text(error, text):
    """Fail unless the error's text contains `text`; errors of the build for boards have no
    texts."""
    _count[0] += 1
    if not built and text not in str(error):
        raise Failed("%s does not say %s" % (error, text))


def run(name):
    """Run every test of the module; a test that checked nothing fails.

    Returns the number of failures.
    """
    unit = __file__.rsplit("/", 2)[0] + "/"
    sys.path[:0] = [unit + folder for folder in FOLDERS]
    module = __import__(name)
    failures = 0
    for test in sorted(dir(module)):
        if not test.startswith("test_"):
            continue
        before = _count[0]
        try:
            getattr(module, test)()
            if _count[0] == before:
                raise Failed("the test checked nothing")
        except Skipped as error:
            print("skip", test, error)
        except Exception as error:
            failures += 1
            print("FAIL", test)
            if hasattr(sys, "print_exception"):
                sys.print_exception(error)
            else:
                import traceback

                traceback.print_exc(file=sys.stdout)
        else:
            print("ok", test, _count[0] - before)
    return failures
