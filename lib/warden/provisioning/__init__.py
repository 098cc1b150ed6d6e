"""The owner's bundle: read from the console, checked, and sealed into a new vault.

Entry points: `provision.main`, which reads the bundle, and `bundle.install`, which writes it;
`replace.replace`, which boot.py calls for a new package. May import `board`, `policy` and `vault`.
"""
