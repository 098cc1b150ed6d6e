"""Addresses that may not connect: who guesses passwords, and the owner's lists; the firewall.

Entry points: strikes.Strikes decides, changes.py changes fleet.db, enforcement.Enforcement makes
nftables follow, firewall.py writes a host's whole rules. service/ban_watch.py runs them under
`warden serve`.
May be imported by service and cli.
"""
