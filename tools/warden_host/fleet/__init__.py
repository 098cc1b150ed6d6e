"""The fleet folder on disk: settings, keys, certificates, and where devices' files are.

Entry point: fleet.Fleet.
May import: the base modules alone.
"""
