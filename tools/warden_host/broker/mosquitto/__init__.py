"""mosquitto with its dynamic-security plugin.

Entry points: broker.Broker runs the process, registry.opened changes accounts, dynsec describes them.
May be imported like broker.
"""
