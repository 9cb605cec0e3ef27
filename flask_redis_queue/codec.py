"""JSON values as bytes, and back: one set of bytes, and one set of what is refused.

The standard library decides both. Where msgspec is installed (``[fast]``) it does the work for
values and bytes of which it is certain that the outcome is the same; all others, and with them
every error, are left to the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

try:
    from msgspec.json import Decoder, Encoder

    FAST = True
except ImportError:
    FAST = False

_DEPTH = 32
_BRACKETS = 200  # far below what either parser follows
_BLANK = ord(" ")
_SCALARS = frozenset({str, int, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})


def encode_by_stdlib(value: Any) -> bytes:
    """Write a value as compact UTF-8 JSON.

    :param value: JSON values only.
    :return: The bytes.
    :raises ValueError: For NaN, infinity, lone surrogates, circular references.
    :raises TypeError: For a type that JSON does not have.
    """
    return _ENCODER.encode(value).encode()


def decode_by_stdlib(raw: bytes) -> Any:
    """Read one JSON value, and refuse what two readers might understand differently.

    :param raw: UTF-8 JSON.
    :return: The value.
    :raises ValueError: If it is none; ``UnicodeDecodeError`` if it is not UTF-8, and
        ``UnicodeEncodeError`` if a string holds half of a surrogate pair.
    :raises RecursionError: If it is nested too deeply.
    """
    text = raw.decode()
    value = _DECODER.decode(text)
    if "\\ud" in text or "\\uD" in text:
        _ENCODER.encode(value).encode()  # refuses lone surrogates, which no UTF-8 can carry
    return value


def encode_by_msgspec(value: Any) -> bytes:
    """Write a value as :func:`encode_by_stdlib` does, in less time.

    :param value: JSON values only.
    :return: The same bytes.
    :raises ValueError: In the same cases.
    :raises TypeError: In the same cases.
    """
    try:
        if _is_plain(value, _DEPTH):
            return _write(value)
    except Exception:
        pass  # what is wrong with it, if anything is, the standard library says
    return encode_by_stdlib(value)


def decode_by_msgspec(raw: bytes) -> Any:
    """Read a value as :func:`decode_by_stdlib` does, in less time if it was written compactly.

    msgspec lets a key stand twice, and has its own limits. So its result counts only if it makes
    the very same bytes again, which a lost key, or a number or a blank in another form, would not.

    :param raw: UTF-8 JSON.
    :return: The same value.
    :raises ValueError: In the same cases.
    :raises RecursionError: In the same cases.
    """
    try:
        # The first two only save time: the bytes would differ. The last bounds the depth, for
        # each level takes an opening bracket and a closing one.
        if (
            raw[raw.find(b":") + 1] != _BLANK
            and b"\\" not in raw
            and (len(raw) <= 2 * _BRACKETS or raw.count(b"{") + raw.count(b"[") <= _BRACKETS)
        ):
            value = _read(raw)
            if _write(value) == raw:
                return value
    except Exception:
        pass  # what is wrong with it, if anything is, the standard library says
    return decode_by_stdlib(raw)


def _is_plain(value: Any, depth: int) -> bool:
    """Whether msgspec writes a value as the standard library does.

    Only exact types: msgspec also writes dates, UUIDs, sets, bytes, dataclasses, and enumerations
    in its own way. And of floats only those that both write without an exponent.
    """
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        inner = value.values()
    elif kind is list or kind is tuple:
        inner = value
    else:
        inner = (value,)
    for one in inner:  # a plain loop: all() with a generator takes half as long again
        kind = type(one)
        if kind is str or kind in _SCALARS:
            continue
        if kind is float:
            if not (1e-4 <= one < 1e16 or 1e-4 <= -one < 1e16 or one == 0):
                return False
        elif kind not in _CONTAINERS or not depth or not _is_plain(one, depth - 1):
            return False  # at the full depth the standard library decides; it may be a circle
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:  # infinity; a comparison with itself would let it pass
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names the same key twice")
    return found


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique
)

encode_json: Callable[[Any], bytes] = encode_by_stdlib
decode_json: Callable[[bytes], Any] = decode_by_stdlib
if FAST:
    _write = Encoder().encode
    _read = Decoder().decode
    encode_json, decode_json = encode_by_msgspec, decode_by_msgspec
