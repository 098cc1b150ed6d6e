"""The owner's bundle, checked and sealed into a new vault: `provision.main` reads it from the console, `bundle.install` writes it.

May import `board`, `policy` and `vault`.
"""
