"""The gate's policy and the secrets of authenticators that several tests share."""

# The secret of RFC 4226, appendix D, and another one of its length.
SECRET = b"12345678901234567890"
OTHER = b"09876543210987654321"

TERMS = {
    "source": "authority",
    "digits": 6,
    "validity_s": 300,
    "idle_s": 60,
    "retries": 3,
    "lock_s": 60,
    "before": "nothing",
    "unlock": True,
    "duress": False,
}
