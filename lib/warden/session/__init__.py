"""Sessions with each application, the commands that they may give, and reports of refusals.

Entry points: `session.Session` (sealed mode), `plain.Plain`, `inbox.Inbox`. Sans-IO; imports net.
"""
