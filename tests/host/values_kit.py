"""Values for tests of what a message can carry."""

from hypothesis import strategies as st

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.binary(max_size=30)
)
keys = st.integers(-300, 300) | st.text(max_size=30)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)


def nested(levels: int, inner: object = None) -> object:
    value: object = [] if inner is None else inner
    for _ in range(levels - 1):
        value = [value]
    return value
