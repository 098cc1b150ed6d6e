"""Provisioning, rotation of secrets, revocation, and the first set-up of a fleet.

Entry points: provision.provision, rotation.rotate, revocation.order_ending, setup.new_fleet.
May import: broker, fleet, otp, protocol, release, store.
"""
