"""The database fleet.db: devices, sessions, releases, rollouts, codes, incidents.

Entry point: store.Store.
May import: protocol.
"""
