"""Updates and starts: download, validate, verify, boot, confirm.

Entry points: `service.Updating` in a connected agent, `boot.begin` at a board's start. May import `net` and `vault`.
"""
