"""An access token as the device's password: fetched by OAuth 2.0, kept sealed, renewed in time.

Entry points for the agent: `keeper.start`, where the policy's `auth` asks for a token, and
`ways.Ways`, where it leaves the choice between a certificate and a password. May import `crypto`,
`net`, `vault` and `wire`.
"""
