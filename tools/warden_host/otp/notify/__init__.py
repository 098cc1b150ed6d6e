"""Ways to deliver a code to the owner of a device (notification channels), one a module.

Entry point: delivery.DeliveryQueues sends a message by the way that the message names. A new way
implements delivery.Way: CONTRIBUTING.md, Add a way to deliver codes.
May be imported by otp.
"""
