"""The numbers of draft-ietf-suit-manifest-37 (June 2026) that Warden knows.

The draft is approved but not published yet, and earlier texts had other numbers.
"""

from micropython import const

# CBOR tags: SUIT_Envelope_Tagged (107) and COSE_Sign1_Tagged (18), as the bytes that they are.
ENVELOPE_TAG = const(b"\xd8\x6b")
SIGN1_TAG = const(b"\xd2")

# SUIT_Digest: the COSE algorithm SHA-256 (RFC 9054).
SHA_256 = const(-16)

# The envelope. INSTALL and TEXT stand there when they were severed from the manifest.
AUTHENTICATION = const(2)
MANIFEST = const(3)

# The manifest.
VERSION = const(1)
SEQUENCE_NUMBER = const(2)
COMMON = const(3)
REFERENCE_URI = const(4)
VALIDATE = const(7)
LOAD = const(8)
INVOKE = const(9)
INSTALL = const(20)
TEXT = const(23)

# Common.
COMPONENTS = const(2)
SHARED_SEQUENCE = const(4)

# Conditions.
IF_VENDOR = const(1)
IF_CLASS = const(2)
IF_IMAGE_MATCH = const(3)
IF_COMPONENT_SLOT = const(5)

# Directives.
SET_COMPONENT_INDEX = const(12)
TRY_EACH = const(15)
OVERRIDE_PARAMETERS = const(20)
DO_FETCH = const(21)
DO_INVOKE = const(23)

# Parameters.
VENDOR_ID = const(1)
CLASS_ID = const(2)
IMAGE_DIGEST = const(3)
COMPONENT_SLOT = const(5)
IMAGE_SIZE = const(14)
# draft-ietf-suit-firmware-encryption
ENCRYPTION_INFO = const(19)
URI = const(21)
# Custom ones are negative. Warden's own: from the confirmation of this manifest on, no image of a
# lower sequence number boots.
WARDEN_FLOOR = const(-1)
