"""The fleet folder on disk: settings, keys, certificates, and where the files of devices lie.

Entry point: fleet.Fleet.
May import: the base modules alone.
"""
