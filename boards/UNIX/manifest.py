# FROZEN_MANIFEST of the unix port: Warden in the binary (boards/README.md).
include("$(PORT_DIR)/variants/standard/manifest.py")
require("umqtt.simple")
package("warden", base_path="../../build/mpy/frozen", opt=3)
