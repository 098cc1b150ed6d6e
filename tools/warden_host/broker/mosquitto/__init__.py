"""mosquitto with its dynamic-security plugin.

Entry points: broker.Broker runs the process, registry.opened changes accounts.
May be imported by broker alone.
"""
