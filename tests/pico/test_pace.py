"""Measure the chunks of an update on the emulated Pico W, against a loop that hashes and writes.

The figures go to build/pico/pace.json, as rows of `make bench`.
"""

from pathlib import Path

from pico_kit import Row, program_pico, write_rows

PROGRAM = Path(__file__).parent / "device" / "pace.py"
PIECES = 128
# Of a Pico W's flash (W25Q16JV), typical, in its data sheet: a page of 256 bytes is programmed in
# 0.4 ms, a sector of 4 KB erased in 45 ms. The emulated one takes no time for either.
FLASH_US = PIECES * (4 * 400 + 45000 / 4)


def test_pace(tmp_path: Path, firmware: Path, repo: Path) -> None:
    pico = program_pico(tmp_path, firmware, PROGRAM)
    try:
        text = pico.execute(f"import pace\npace.print_paces({PIECES})")
    finally:
        pico.kill()
    found = dict(line.split() for line in text.splitlines())
    assert found["state"] == "Verifying"
    bare, chunks = int(found["bare"]), int(found["chunks"])
    pace = "% of a bare loop's pace"
    flashed = 100 * (bare + FLASH_US) / (chunks + FLASH_US)
    write_rows(
        repo / "build" / "pico" / "pace.json",
        [
            Row("a chunk of 1 KB into its slot, without the flash", chunks / 1000 / PIECES, "ms"),
            Row("chunks of an update, without the flash", 100 * bare / chunks, pace, least=97),
            Row("chunks of an update, flash by its data sheet", flashed, pace, least=97),
        ],
    )
