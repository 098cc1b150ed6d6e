"""Rotation of secrets, and the authority's other commands.

`commands` runs them on the agent, `rotation` holds what is pending, `networks` changes the Wi-Fi.
May import `net`, `provisioning`, `session` and `vault`.
"""
