"""Alarms to the fleet's operators by mail and webhook: grouped, bounded, tried again.

Entry points: settings.load reads `[alarms]` of warden.toml; rules.alarm_of turns a fleet event
into an alarm; channel.Channel delivers alarms. service/alarm_service.py runs them under
`warden serve`.
May be imported by service and cli.
"""
