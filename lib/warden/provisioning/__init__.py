"""The owner's bundle: read from the console, checked, and sealed into a new vault.

Entry points: `provision.main`, which reads the bundle, and `bundle.install`, which writes it. May
import `board`, `policy` and `vault`.
"""
