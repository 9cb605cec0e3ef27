"""marshmallow's machinery behind a contract: a tolerant reader, the wire form, errors as sentences.

Sending is strict and receiving is tolerant: an old consumer must survive a new optional field.
"""

from __future__ import annotations

import copy
import enum
import json
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

from marshmallow import EXCLUDE, Schema, ValidationError, class_registry, fields

_TOLERANT = "__redis_queue_tolerant__"
_NATIVE = frozenset({str, int, bool, type(None)})


def normalized(error: ValidationError) -> dict[str, Any]:
    """:return: marshmallow's errors as a dict, also where a validator gave a bare text."""
    return cast("dict[str, Any]", error.normalized_messages())  # type: ignore[no-untyped-call]


def describe(errors: Mapping[Any, Any], payload: Any = None, *, most: int = 3) -> str:
    """Put marshmallow's errors into a line.

    :param errors: marshmallow's dict.
    :param payload: Where to look for the values that were refused.
    :param most: How many errors to name.
    :return: For example ``quantity: Not a valid integer. (got "ten")``.
    """
    lines = []
    for path, text in _flatten(errors):
        got = _dig(payload, path)
        shown = "" if got is _NOTHING else f" (got {_short(got)})"
        name = ".".join(str(part) for part in path if part != "_schema")
        lines.append(f"{name}: {text}{shown}" if name else f"{text}")
    more = f" And {len(lines) - most} more." if len(lines) > most else ""
    return "; ".join(lines[:most]) + more


# Tolerant reading ------------------------------------------------------------------------------


def tolerant(schema_class: type[Schema]) -> type[Schema]:
    """Derive a Schema that leaves out unknown fields at every depth.

    A Schema whose ``Meta`` sets ``unknown`` keeps its own rule.

    :param schema_class: The user's Schema.
    :return: A subclass, made once for each class, so that recursive schemas end.
    """
    known: type[Schema] | None = schema_class.__dict__.get(_TOLERANT)
    if known is not None:
        return known
    # Not registered, or marshmallow would find two classes of this name for Nested("Name").
    options: dict[str, Any] = {"register": False}
    if getattr(schema_class.Meta, "unknown", None) is None:
        options["unknown"] = EXCLUDE

    def on_bind_field(self: Schema, name: str, bound: fields.Field[Any]) -> None:
        schema_class.on_bind_field(self, name, bound)
        _relax(bound)

    metaclass: Callable[..., object] = type(schema_class)
    made = cast(
        "type[Schema]",
        metaclass(
            schema_class.__name__,
            (schema_class,),
            {
                "Meta": type("Meta", (schema_class.Meta,), options),
                "on_bind_field": on_bind_field,
                "__module__": schema_class.__module__,
            },
        ),
    )
    for one in (made, schema_class):
        setattr(one, _TOLERANT, made)
    return made


def _relax(bound: fields.Field[Any]) -> None:
    if isinstance(bound, fields.Nested):
        bound.nested = _relax_nested(bound.nested)
    elif isinstance(bound, fields.List):
        _relax(bound.inner)
    elif isinstance(bound, fields.Tuple):
        for one in bound.tuple_fields:
            _relax(one)
    elif isinstance(bound, fields.Mapping) and bound.value_field is not None:
        _relax(bound.value_field)


def _relax_nested(nested: Any) -> Any:
    if isinstance(nested, str):
        return lambda: tolerant(class_registry.get_class(nested, all=False))
    if isinstance(nested, Mapping):
        return tolerant(Schema.from_dict(dict(nested)))
    if isinstance(nested, Schema):
        relaxed = copy.copy(nested)
        relaxed.__class__ = tolerant(type(nested))
        if getattr(type(nested).Meta, "unknown", None) is None:
            relaxed.unknown = EXCLUDE
        return relaxed
    if isinstance(nested, type) and issubclass(nested, Schema):
        return tolerant(nested)
    return lambda: _relax_nested(nested())


# The wire form ---------------------------------------------------------------------------------


def wire_mapping(schema: Schema, payload: Mapping[Any, Any]) -> dict[Any, Any]:
    """Write the values of a mapping that JSON has no type for, each by its field.

    :param schema: Whose fields.
    :param payload: By ``data_key``; everything else in it stays as it is.
    :return: A copy.
    :raises marshmallow.ValidationError: For a value that its field cannot write.
    """
    wire = dict(payload)
    for name, one in schema.load_fields.items():
        key = one.data_key if one.data_key is not None else name
        value = wire.get(key)
        if type(value) not in _NATIVE:
            try:
                wire[key] = _wire_value(one, key, value)
            except ValidationError as error:
                raise ValidationError({key: error.messages}) from error
            except Exception as error:
                raise ValidationError({key: [str(error) or type(error).__name__]}) from error
    return wire


def _wire_value(one: fields.Field[Any], key: str, value: Any) -> Any:
    """Write what JSON has no type for by its field; leave everything else as it is."""
    kind = type(value)
    if kind in _NATIVE:
        return value
    if kind is float:
        # marshmallow's Integer cuts 5.7 to 5 unless it is strict; a queue must not change goods.
        if isinstance(one, fields.Integer) and not value.is_integer():
            raise one.make_error("invalid", input=value)
        return value
    if isinstance(one, fields.Nested):
        if isinstance(value, Mapping):
            return wire_mapping(one.schema, value)
        if isinstance(value, (list, tuple)):
            return [_wire_value(one, key, item) for item in value]
    elif isinstance(one, fields.List) and isinstance(value, (list, tuple, set, frozenset)):
        return [_wire_value(one.inner, key, item) for item in value]
    elif isinstance(one, fields.Tuple) and isinstance(value, (list, tuple)):
        pairs = zip(one.tuple_fields, value, strict=False)
        return [_wire_value(inner, key, item) for inner, item in pairs] + list(
            value[len(one.tuple_fields) :]
        )
    elif isinstance(value, Mapping):
        inner = one.value_field if isinstance(one, fields.Mapping) else None
        if inner is None:
            return dict(value)
        return {name: _wire_value(inner, str(name), item) for name, item in value.items()}
    elif kind in (list, tuple):
        return value
    elif isinstance(one, fields.String) and isinstance(value, enum.Enum):
        return value.value
    # `serialize` looks its value up by attribute; the accessor gives it this one.
    written = one.serialize(key, value, accessor=lambda obj, attribute, default: value)
    return without_decimals(written)


def without_decimals(value: Any) -> Any:
    """:return: The value with each Decimal as text: a JSON number would lose digits."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {key: without_decimals(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_decimals(item) for item in value]
    return value


# Sentences -------------------------------------------------------------------------------------

_NOTHING = object()


def _flatten(errors: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[tuple[Any, ...], str]]:
    if isinstance(errors, Mapping):
        for key, value in errors.items():
            yield from _flatten(value, (*path, key))
    elif isinstance(errors, (list, tuple)):
        for one in errors:
            yield from _flatten(one, path)
    else:
        yield path, str(errors)


def _dig(payload: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        try:
            payload = payload[part]
        except (LookupError, TypeError):
            return _NOTHING
    return payload if path and not isinstance(payload, (Mapping, list, tuple)) else _NOTHING


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
