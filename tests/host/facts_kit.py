"""What a Raspberry Pi Pico W tells of itself."""

from warden_host.boards.checks import Facts

PICO = Facts(
    version=(1, 28, 0),
    platform="rp2",
    machine="Raspberry Pi Pico W with RP2040",
    build="RPI_PICO_W",
    mpy=6 | 3 << 8 | 4 << 10,
    unique_id="e6605838839b0d2f",
    heap=200_000,
    mounted="VfsLfs2",
    folded=False,
    block=4096,
    blocks=212,
    free=209,
    files=(),
    modules=("asyncio", "cryptolib", "hashlib", "tls", "vfs"),
)
