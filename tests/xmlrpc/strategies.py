"""Values as they travel, for hypothesis."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from msgspec.msgpack import Ext

texts = st.text(max_size=30) | st.text(
    alphabet=st.sampled_from("\x00\x0b\r\n\t\ud800\ufffe\uffff\u20ac\U0001f600<>&]\"' a"), max_size=8
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers()
    | st.floats()
    | texts
    | st.binary(max_size=30)
    | st.datetimes(timezones=st.just(UTC))
    | st.builds(Ext, st.integers(0, 127), st.binary(max_size=8))
)
keys = texts | st.integers(-5, 5) | st.binary(max_size=3) | st.booleans() | st.none()
decoded: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)
"""The decoded form, and more than that: whatever the writer must be able to write."""

exact_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        alphabet=st.characters(
            exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\ufffe", "\uffff"]
        )
        | st.sampled_from("\t\r\n<>&"),
        max_size=30,
    )
    | st.binary(max_size=30)
    | st.datetimes(min_value=datetime(1, 1, 1), timezones=st.just(UTC)).map(
        lambda d: d.replace(microsecond=0, fold=0)
    )
)
exact: st.SearchStrategy[Any] = st.recursive(
    exact_scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(alphabet="abc_ <&>\r\u20ac", max_size=6), inner, max_size=5)
    ),
    max_leaves=25,
)
"""What XML-RPC can carry as it is."""
