"""Sessions with each application, the commands that they may give, and reports of what was refused.

Entry points: `session.Session` (sealed mode), `plain.Plain`, `inbox.Inbox`. Sans-IO; imports `net`.
"""
