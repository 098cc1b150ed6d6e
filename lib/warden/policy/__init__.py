"""The owner's demands on a device: `policy.Policy`, and `otp` for the gate's."""
