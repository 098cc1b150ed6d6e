# FROZEN_MANIFEST of MicroPython's build for this board: Warden in the firmware (boards/README.md).
include("$(PORT_DIR)/boards/manifest.py")
package("warden", base_path="../../build/mpy/frozen", opt=3)
