"""Who may say what: sessions with each application, their commands, and the reports of what was refused.

Entry points: `session.Session` (sealed mode), `plain.Plain`, `inbox.Inbox`. Sans-IO; may import `net`.
"""
