"""The owner's demands on a device, parsed: `policy.Policy`, and `otp` for those on the gate. Imports no other package."""
