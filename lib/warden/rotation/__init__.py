"""Rotation of secrets, and the authority's other commands.

`commands` runs them on the agent, `rotation` holds what is pending. May import `net`,
`provisioning`, `session` and `vault`.
"""
