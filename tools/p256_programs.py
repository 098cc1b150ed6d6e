"""The programs of the P-256 field machine, and the proof that nothing in them overflows.

The field machine. A number has 20 limbs of 13 bits, in 16-bit words, times R = 2^260 (Montgomery).
The modulus is p = 2^256 - 2^224 + 2^192 + 2^96 - 1, so -1/p is 1 modulo 2^13: a limb is its own
quotient digit, and adding q·p costs four shifts. Products are summed row by row into 32-bit words;
a square takes two triangles and one rectangle of half the length. All is unsigned and stays below
2^32, on 64-bit and 32-bit machines alike.

What makes it fast are the additions that are not done: every product takes an addend at no cost,
sums and differences work on two limbs at once without carries (a multiple of p with large limbs,
K…, keeps differences positive), and only twice in a point operation are carries needed.
`prove()` follows the largest limb, top limb and value through the programs until they repeat, and
fails if anything could overflow.

Points are Jacobian with twice the y coordinate, (X, 2Y, Z): the constants of the textbook formulas
vanish. The slope of a doubling comes out negated, which squares to the same.
"""

from collections.abc import Iterable

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF

LIMBS = 20
BITS = 13
MASK = (1 << BITS) - 1
R = 1 << (LIMBS * BITS)

# Multiples of p in redundant form: (multiple, how many full limbs may be taken off each of its
# limbs).
COVER = {"KX": (8, 1), "KY": (4, 1), "KT": (2, 1), "K2": (4, 2), "K3": (5, 3)}
REGISTERS = "X Y Z A B C D E I PX PY ZERO ONE KX KY KT K2 K3".split()

# d = a * b + c; d = a ± b ± c without carries; d = norm m a: m·a with carries, less a multiple of
# p so that about p is left.
DOUBLE = """
A = KX - X - ZERO
B = Z * Z + A        # Z² - X
C = B + X + X        # Z² + X
B = B * C + ZERO
B = norm 3 B         # -slope
C = Y * Y + ZERO     # G
Z = Y * Z + ZERO
D = X * C + ZERO     # S
A = K2 - D - D
X = B * B + A        # slope² - 2S
D = X + KY - D
D = norm 1 D         # X - S
B = B + B + ZERO
C = C * C + ZERO
C = KT - C - ZERO
Y = B * D + C        # 2·slope(S - X) - G²
"""
# Adds the affine point (PX, PY). E = 2H stays behind: the ratio of the new Z to the old one.
ADD = """
A = Z * Z + ZERO
B = Z * A + ZERO
C = KX - X - ZERO
A = PX * A + C       # H
C = KY - Y - ZERO
B = PY * B + C       # r
E = norm 2 A
Z = Z * E + ZERO
C = E * E + ZERO     # I
A = A * C + ZERO     # J
C = X * C + ZERO     # V
D = K3 - C - C
D = D - A - ZERO
X = B * B + D        # r² - J - 2V
C = C + KX - X
C = norm 1 C         # V - X
D = Y + Y + ZERO
A = D * A + ZERO
A = KT - A - ZERO
B = B + B + ZERO
Y = B * C + A        # 2r(V - X) - 2YJ
"""
NEGATE = "PY = KT - PY - ZERO\n"
PROGRAMS = {
    "DOUBLE": DOUBLE,
    "ADD": ADD,
    "SUBTRACT": NEGATE + ADD,
    # The accumulator becomes the operand, or its negative.
    "SET": "X = norm 1 PX\nY = norm 1 PY\nZ = norm 1 ONE\n",
    "SET_NEGATIVE": NEGATE + "X = norm 1 PX\nY = norm 1 PY\nZ = norm 1 ONE\n",
    # Into and out of affine form: scale the operand by 1/I; go on to the next Z by its ratio E.
    "SCALE": "A = I * I + ZERO\nPX = PX * A + ZERO\nA = A * I + ZERO\nPY = PY * A + ZERO\n",
    "STEP": "I = I * E + ZERO\n",
    # What is compared: A = PX·Z², B = PY·Z³, C = Z².
    "COMPARE": "C = Z * Z + ZERO\nA = PX * C + ZERO\nB = C * Z + ZERO\nB = PY * B + ZERO\n",
}

Op = tuple[str, int, str, str, str, str]


def parse(text: str) -> list[Op]:
    """Lines of a program as (operation, multiplier, d, a, b, c)."""
    ops: list[Op] = []
    for line in text.split("\n"):
        words = line.split("#")[0].split()
        if not words:
            continue
        d = words[0]
        if words[2] == "norm":
            ops.append(("norm", int(words[3]), d, words[4], "ZERO", "ZERO"))
        elif words[3] == "*":
            kind = "square" if words[2] == words[4] else "multiply"
            ops.append((kind, 1, d, words[2], words[4], words[6]))
        else:
            ops.append((words[3] + words[5], 1, d, words[2], words[4], words[6]))
    return ops


def assemble(text: str) -> bytes:
    """Five bytes an operation: code, d, a, b, c as register numbers; 255 ends."""
    codes = {"multiply": 0, "square": 1, "++": 2, "+-": 3, "--": 4}
    out = bytearray()
    for kind, times, *registers in parse(text):
        code = 4 + times if kind == "norm" else codes[kind]
        out += bytes([code, *(REGISTERS.index(name) for name in registers)])
    return bytes(out) + b"\xff"


def limbs(value: int) -> list[int]:
    return [value >> (BITS * i) & MASK for i in range(LIMBS - 1)] + [value >> (BITS * 19)]


def words(values: Iterable[int]) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in values)


def redundant(multiple: int, cover: int) -> list[int]:
    """multiple·p with `cover` units borrowed from each limb for the one below it."""
    digits = limbs(multiple * P)
    middle = [digit + cover * MASK for digit in digits[1:-1]]
    return [digits[0] + (cover << BITS), *middle, digits[-1] - cover]


# --- the proof
# ------------------------------------------------------------------------------------

Bound = tuple[int, int, float]  # largest limb below the top, top limb, value as a multiple of p


def need(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)


def _product(a: Bound, b: Bound, c: Bound) -> Bound:
    worst = 0
    for column in range(2 * LIMBS - 1):
        total = 0
        for i in range(max(0, column - 19), min(LIMBS, column + 1)):
            total += (a[1] if i == 19 else a[0]) * (b[1] if column - i == 19 else b[0])
        worst = max(worst, total)
    # The carry into the column, and what the four quotient digits of a column add.
    worst += (1 << 19) + (1 << 18) + (1 << 23) + (1 << 16) + (1 << 22) + max(c[:2])
    need(worst < 1 << 32, "a column overflows")
    value = a[2] * b[2] / 16 + 1 + c[2] + 1e-6
    need(value * 512 < 1 << 16, "a top limb overflows")
    return (MASK, int(value * 512) + 1, value)


def follow(bounds: dict[str, Bound], text: str) -> dict[str, Bound]:
    """The bounds after a program, from those before it."""
    now = dict(bounds)
    # What may still be taken off each limb of a difference that is under way.
    left: dict[str, tuple[int, int]] = {}
    for kind, times, d, a, b, c in parse(text):
        if kind in ("multiply", "square"):
            now[d] = _product(now[a], now[b], now[c])
            need(kind == "multiply" or now[a][0] <= MASK, "a square of large limbs")
        elif kind == "norm":
            need(now[a][0] * times < 1 << 20, "a carry overflows")
            value = 1.02 + (now[a][0] * times / 8192 + 1) / 512
            now[d] = (MASK, int(value * 512) + 1, value)
        else:
            signs = (1, 1 if kind[0] == "+" else -1, 1 if kind[1] == "+" else -1)
            if "-" in kind:
                taken = [now[x] for x, sign in zip((a, b, c), signs, strict=True) if sign < 0]
                covers = [x for x in (a, b, c) if x in COVER]
                if covers:
                    form = redundant(*COVER[covers[0]])
                    low, top = min(form[:-1]), form[-1]
                else:
                    low, top = left[a]
                low -= sum(bound[0] for bound in taken)
                top -= sum(bound[1] for bound in taken)
                need(low >= 0 and top >= 0, f"{d} may become negative")
                left[d] = (low, top)
            added = [now[x] for x, sign in zip((a, b, c), signs, strict=True) if sign > 0]
            total = tuple(sum(bound[i] for bound in added) for i in range(3))
            need(total[0] < 1 << 16 and total[1] < 1 << 16, f"{d} overflows")
            now[d] = (int(total[0]), int(total[1]), float(total[2]))
    return now


def prove() -> dict[str, Bound]:
    """The largest accumulator that any sequence of programs can reach, from any operand that a
    table may hold."""
    start: Bound = (MASK, 512, 1.0)
    # Table entries come reduced, those of SCALE are products.
    operand: Bound = (MASK, 900, 1.75)
    bounds: dict[str, Bound] = {"ZERO": (0, 0, 0.0), "ONE": start, "PX": operand, "PY": operand}
    for name, (multiple, cover) in COVER.items():
        form = redundant(multiple, cover)
        bounds[name] = (max(form[:-1]), form[-1], float(multiple))
    bounds |= {"X": start, "Y": start, "Z": start, "I": operand, "E": operand}
    for _ in range(100):
        ends = [follow(bounds, text) for text in PROGRAMS.values()]
        wider = dict(bounds)
        for name in ("X", "Y", "Z"):
            for end in ends:
                widest = [
                    max(one, other) for one, other in zip(wider[name], end[name], strict=True)
                ]
                wider[name] = (int(widest[0]), int(widest[1]), float(widest[2]))
        for end in ends:
            need(max(end["I"][2], end["E"][2]) <= operand[2], "a ratio is too large")
        # SCALE takes what stood in the accumulator.
        scaled = follow(bounds | {"PX": bounds["X"], "PY": bounds["Y"]}, PROGRAMS["SCALE"])
        need(max(scaled["PX"][2], scaled["PY"][2]) <= operand[2], "a table entry is too large")
        if all(abs(wider[name][2] - bounds[name][2]) < 1e-9 for name in "XYZ"):
            return wider
        bounds = wider
    raise ValueError("the bounds do not come to rest")
