"""Fetches drivers of displays that owners put beside their application, for tests alone:
micropython-lib's ssd1306, and the HD44780 driver I2cLcd of python_lcd.

python tools/setup/displays.py DIRECTORY       leaves DIRECTORY/ssd1306.py and DIRECTORY/i2c_lcd/
"""

import sys
from pathlib import Path

from umqtt import fetch

DRIVERS = (
    (
        "micropython-ssd1306==0.3",
        "d00cae1ff680e6ae504e258e700f002874b0d924b1a604253b6ea63144b58289",
        {"micropython-ssd1306-0.3/ssd1306.py": "ssd1306.py"},
    ),
    (
        "i2c-lcd-esp32==0.0.19",
        "d16dcf21c4dfffc4eeaddaab19dc8f65b6ef8737eb0072e4999b4b98769f2ed7",
        {
            f"i2c_lcd/{name}.py": f"i2c_lcd/{name}.py"
            for name in ("__init__", "i2c_lcd", "lcd_api")
        },
    ),
)


def main(directory: Path) -> None:
    for requirement, sha256, members in DRIVERS:
        for path, data in zip(
            members.values(), fetch(requirement, sha256, list(members)), strict=True
        ):
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
