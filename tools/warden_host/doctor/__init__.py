"""`warden doctor`: find what is weak about a fleet, its broker, a device or a backup.

Entry points: `fleet_report`, `device_report` and `backup_report` in report.py. A check is one
function, registered by `registry.check`; it reads and changes nothing. Only `cli` imports this
package.
"""
