"""Unload the code that opens a connection, so that the next one loads it with a test's modules."""

from warden import unload


def unload_connecting():
    for name in ("warden.net.login", "warden.net.umqtt_adapter", "warden.net.dial", "warden.dial"):
        unload(name)  # the last in the build for boards, where one file holds all of them
