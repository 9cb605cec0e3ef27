"""Contracts: a marshmallow Schema with a message type, which makes payloads wire form and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from marshmallow import Schema, ValidationError

from .envelope import FORMATS, Format
from .exceptions import ConfigurationError, InvalidMessage
from .keys import check_queue_name
from .schemas import describe, normalized, tolerant, wire_mapping, without_decimals

SchemaClass = TypeVar("SchemaClass", bound=type[Schema])
SchemaType = type[Schema]  # in classes that have a field named `type`
_MARK = "__redis_queue_contract__"


@dataclass(frozen=True)
class Contract:
    """A message type and the Schema that says what its payload is.

    :param type: The type, as CloudEvents has it.
    :param schema_class: The Schema.
    :param queue: The queue it travels on; ``None``: the default queue of whichever app asks.
    :param format: The wire format; ``None``: the app's.
    """

    type: str
    schema_class: SchemaType
    queue: str | None = None
    format: Format | None = None
    _strict: Schema = field(init=False, repr=False, compare=False)
    _tolerant: Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # One instance each for the life of the process: building one costs more than a load.
        object.__setattr__(self, "_strict", self.schema_class())
        object.__setattr__(self, "_tolerant", tolerant(self.schema_class)())
        for name, one in self._strict.fields.items():
            if one.dump_only or one.load_only:
                side = "dump_only" if one.dump_only else "load_only"
                raise ConfigurationError(
                    f"{self.schema_class.__name__}.{name} is {side}. A message is dumped by one "
                    "service and loaded by another, so each field must do both."
                )

    def to_wire(self, payload: Any) -> Any:
        """Check a payload and make JSON values of it.

        :param payload: A mapping is the wire form already; any other object is dumped.
        :return: What ``data`` holds.
        :raises InvalidMessage: If the Schema refuses it.
        """
        try:
            if isinstance(payload, Mapping):
                wire = wire_mapping(self._strict, payload)
            else:
                wire = without_decimals(self._strict.dump(payload))
            errors: Mapping[Any, Any] = self._strict.validate(wire)
        except ValidationError as error:
            wire, errors = payload, normalized(error)
        except Exception as error:
            wire, errors = payload, {"_schema": [f"{type(error).__name__}: {error}"]}
        if errors:
            raise InvalidMessage(f"{self.type} not sent. {describe(errors, wire)}", errors)
        return wire

    def load(self, data: Any) -> Any:
        """Make the handler's argument.

        :param data: JSON values from the wire.
        :return: What ``Schema.load`` returns.
        :raises marshmallow.ValidationError: If the Schema refuses it.
        """
        return self._tolerant.load(data)


def message(
    type: str, *, queue: str | None = None, format: Format | None = None
) -> Callable[[SchemaClass], SchemaClass]:
    """Make a marshmallow Schema the contract of a message type.

    :param type: The type's name, for example ``"stock.supplied"``.
    :param queue: The queue it travels on; ``None``: the default queue of the app.
    :param format: ``"cloudevents"`` or ``"plain"``; ``None``: what ``REDIS_QUEUE_FORMAT`` says.
    :return: A decorator that returns the class unchanged.
    :raises ConfigurationError: If a field is ``dump_only`` or ``load_only``.
    :raises ValueError: If a name is not allowed.
    """
    if not isinstance(type, str) or not type.strip() or not type.isprintable():
        raise ValueError(f"The message type is {type!r}. Use a name such as 'stock.supplied'.")
    if queue is not None:
        check_queue_name(queue)
    if format is not None and format not in FORMATS:
        raise ValueError(f"format is {format!r}. Use one of {', '.join(FORMATS)}.")

    def decorate(schema_class: SchemaClass) -> SchemaClass:
        setattr(schema_class, _MARK, Contract(type, schema_class, queue, format))
        return schema_class

    return decorate


def contract_of(schema_class: object) -> Contract | None:
    """:return: The contract that :func:`message` put on this very class; a subclass has none."""
    return cast("Contract | None", getattr(schema_class, "__dict__", {}).get(_MARK))


def contracts_in(source: object) -> list[Contract]:
    """Find the contracts of a module, a schema, or an iterable of these.

    :param source: What was given as ``contracts=``.
    :return: Its contracts.
    :raises ConfigurationError: If there is something else in it.
    """
    own = contract_of(source)
    if own is not None:
        return [own]
    if isinstance(source, (type, str)):
        raise ConfigurationError(
            f"contracts= holds {source!r}, which is no @message schema. Pass a module or schemas."
        )
    if isinstance(source, Iterable):
        return [contract for one in source for contract in contracts_in(one)]
    found = [contract_of(value) for value in vars(source).values()]
    return list(dict.fromkeys(contract for contract in found if contract is not None))
