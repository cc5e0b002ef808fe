"""Hypothesis strategies out of layouts: what can be read can be drawn."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from countersign.recorder.wire import extensions as e
from countersign.recorder.wire.messages import HELLO_RETRY_REQUEST_RANDOM
from countersign.recorder.wire.reader import Bytes, Codec, Fixed, Many, Nested, Number, Numbers, Rest, Struct, layout

_FORMS = e.extension_forms()
_GREASE = st.sampled_from([0x0A0A, 0x6A6A, 0xFAFA])


def structs(struct: type[Struct]) -> st.SearchStrategy[Any]:
    """Values of a struct that are as its RFC wants them."""
    if struct is e.EchOuter:
        special: dict[str, Any] = {"type": st.just(0)}
    elif struct is e.EchInner:
        special = {"type": st.just(1)}
    elif struct in {e.StatusRequest, e.StapledStatus} or struct.__name__ == "CertificateStatus":
        special = {"status_type": st.just(1)}
    elif struct is e.StatusRequestOfUnknownType:
        special = {"status_type": st.integers(2, 255)}
    elif struct.__name__ == "ServerHello":
        special = {"random": st.binary(min_size=32, max_size=32).filter(lambda one: one != HELLO_RETRY_REQUEST_RANDOM)}
    else:
        special = {}
    fields = {name: special[name] if name in special else values(codec) for name, codec in layout(struct)}
    return st.builds(struct, **fields)


def values(codec: Codec) -> st.SearchStrategy[Any]:
    """Values that a codec accepts without a problem."""
    if isinstance(codec, Number):
        return st.integers(0, 256**codec.size - 1)
    if isinstance(codec, Fixed):
        return st.binary(min_size=codec.size, max_size=codec.size)
    if isinstance(codec, Rest):
        return st.binary(max_size=20)
    if isinstance(codec, Bytes):
        return st.binary(min_size=codec.minimum, max_size=min(codec.maximum or 40, max(40, codec.minimum)))
    if isinstance(codec, Numbers):
        number = st.integers(0, 256**codec.item - 1)
        least = -(-codec.minimum // codec.item)
        return st.lists(number | _GREASE if codec.item == 2 else number, min_size=least, max_size=6).map(tuple)
    if isinstance(codec, Nested):
        return structs(codec.struct)
    if isinstance(codec, Many):
        return _lists(codec)
    if isinstance(codec, e.ExtensionBlock):
        return _blocks(codec)
    if type(codec).__name__ == "_QuicParameterCodec":
        return st.builds(
            e.QuicParameter, st.integers(0, 63), st.binary(max_size=20), st.just(1), st.sampled_from([1, 2, 4, 8])
        )
    if type(codec).__name__ == "_EchConfigCodec":
        return st.builds(e.EchConfig, st.just(0xFE0D), structs(e.EchConfigContents)) | st.builds(
            e.EchConfig, st.just(0xFE0A), st.binary(max_size=20)
        )
    if type(codec).__name__ == "_TrustedAuthorityCodec":
        return st.one_of(
            st.builds(e.TrustedAuthority, st.just(0), st.just(b"")),
            st.builds(e.TrustedAuthority, st.sampled_from([1, 3]), st.binary(min_size=20, max_size=20)),
            st.builds(e.TrustedAuthority, st.just(2), st.binary(min_size=1, max_size=20)),
        )
    raise NotImplementedError(type(codec))


def _lists(codec: Many) -> st.SearchStrategy[Any]:
    def long_enough(items: list[Any]) -> bool:
        return sum(len(codec.item.build(item)) for item in items) >= codec.minimum

    return st.lists(values(codec.item), min_size=1 if codec.minimum else 0, max_size=3).filter(long_enough).map(tuple)


def _blocks(codec: e.ExtensionBlock) -> st.SearchStrategy[Any]:
    known = [
        structs(form)
        for code, forms in sorted(_FORMS.items())
        if codec.where in forms and code != 41
        for form in forms[codec.where]
    ]
    unknown = st.builds(e.UnknownExtension, _GREASE | st.integers(0x8000, 0x8100), st.binary(max_size=8))
    listed = st.lists(
        st.one_of(unknown, *known), min_size=1 if codec.minimum else 0, max_size=5, unique_by=lambda one: one.code
    )
    return listed.map(tuple)
