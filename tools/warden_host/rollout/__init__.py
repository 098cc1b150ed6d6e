"""Update many devices in waves: the plan, its progress, and the job that updates one device.

Entry point: rollouts.Rollouts.
May import: engine, protocol, release, store.
"""
