"""Formats, pure: bytes in, values out.

They import only `warden.errors` and each other; `wire.envelope` may use `warden.crypto`.
"""
