"""Unloading: what an unloaded module takes with it, and what stays."""

import sys

from harness import check, equal
from warden import unload
from warden.ota.update import run_transient

BUILT = True
KEPT = "warden.wire.suit_plan"


def loaded(name):
    """Whether sys.modules or the package still holds the module."""
    package, _, module = name.rpartition(".")
    return name in sys.modules or module in getattr(sys.modules.get(package), "__dict__", ())


def test_a_module_leaves_its_own_package():
    from warden.ota import inflate

    check(loaded("warden.ota.inflate"))
    unload("warden.ota.inflate")
    check(not loaded("warden.ota.inflate"))
    check(inflate.inflate is not None)  # what is referenced lives on
    unload("warden.ota.inflate")  # not loaded: nothing happens


def test_a_module_that_is_emptied():
    from warden.ota import inflate

    function = inflate.inflate
    unload("warden.ota.inflate", empty=True)
    check(not loaded("warden.ota.inflate"))
    check(not hasattr(inflate, "inflate") and function is not None)
    unload("warden.ota.inflate", empty=True)  # not loaded: nothing happens


def test_a_module_outside_packages():
    sys.modules["board"] = object()
    unload("board")
    check("board" not in sys.modules)


def test_a_module_whose_package_is_gone():
    sys.modules["warden.gone.module"] = object()
    unload("warden.gone.module")
    check("warden.gone.module" not in sys.modules)


def test_what_a_call_loads_is_unloaded_after_it():
    unload("warden.ota.https")
    before = sorted(sys.modules)

    def work(value):
        from warden.ota import https
        from warden.wire import suit_plan

        check(loaded("warden.ota.https"))
        return value + (https is not None) + (suit_plan is not None)

    equal(run_transient(work, 1), 3)
    check(not loaded("warden.ota.https"))
    equal([name for name in sorted(sys.modules) if name not in before and name != KEPT], [])
    check(loaded(KEPT))


def test_a_call_that_fails_leaves_nothing_either():
    unload("warden.ota.https")

    def work():
        from warden.ota import https

        raise ValueError(https)

    try:
        run_transient(work)
        check(False)
    except ValueError:
        pass
    check(not loaded("warden.ota.https"))
