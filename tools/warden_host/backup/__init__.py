"""Backups of a fleet: made, checked, and made a fleet again.

Entry points: backup.make, backup.check and backup.restore. The file is a tar archive in the age
format (age.py), so that age itself opens it without Warden as well.
May be imported by cli.
"""
