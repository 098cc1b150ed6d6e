"""Ways to deliver a code to the owner of a device: console, mail, webhook.

Entry point: delivery.Post sends a message by the way that the settings name.
May be imported by otp.
"""
