"""Which applications `warden serve` logs in as, while another process removes one."""

from types import SimpleNamespace

import pytest
from host_kit import refused
from warden_host.devices import app_export
from warden_host.errors import HostError

HOME, DASH = SimpleNamespace(appid="home"), SimpleNamespace(appid="dash")


class Store:
    """What fleet.db has, one time after the other."""

    def __init__(self, *found):
        self.found = list(found)

    def apps(self):
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    def exported(self):
        return {}


def failing(code, times, seen):
    def work(apps):
        seen.append([app.appid for app in apps])
        if len(seen) <= times:
            raise HostError(code, "")

    return work


def test_an_application_that_is_removed_meanwhile():
    """Its row was read, and its password was gone."""
    seen = []
    app_export.for_served(Store([HOME, DASH], [DASH]), failing("key-missing", 1, seen))
    assert seen == [["home", "dash"], ["dash"]]


@pytest.mark.parametrize("code", ["key-missing", "key-permissions"])
def test_a_password_of_an_application_that_is_there(code):
    seen = []
    with refused(code):
        app_export.for_served(Store([HOME]), failing(code, 1, seen))
    assert seen == [["home"]]


def test_another_error_while_one_is_removed():
    with refused("key-permissions"):
        app_export.for_served(Store([HOME], []), failing("key-permissions", 1, []))
