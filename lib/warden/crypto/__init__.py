"""Primitives, one a file. They import only `warden.errors` and each other."""
