# FROZEN_MANIFEST of MicroPython's build for this board: Warden in the firmware (boards/README.md).
include("$(BOARD_DIR)/manifest.py")
require("umqtt.simple")
package("warden", base_path="../../build/mpy/frozen", opt=3)
