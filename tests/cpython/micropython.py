"""Stands in for MicroPython's module of that name, so that pure modules import under CPython. It
has no `viper` and no `native`: code that wants them takes its fallback, as on a port without the
native emitter."""


def const(value):
    return value


def opt_level():
    return 0
