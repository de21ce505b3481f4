"""Base of all pydantic models: unknown keys are refused by name, and errors have file, line and field.

Knows pydantic and `document`; nothing of scenarios.
"""

import re
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.scenario.document import Document, Position, field_name

_MAX_SHOWN = 10  # errors
_MANY = 100  # items of a list
_MAX_LENGTH = 100  # characters of a wrong value
_MAX_MESSAGE = 2000  # characters of an error, which names what is wrong

ModelT = TypeVar("ModelT", bound="Strict")


class Strict(BaseModel):
    """Frozen model that refuses unknown keys, with the key that was probably meant, and numbers that are not finite."""

    # Validators of models within others are part of theirs, and not made for themselves.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _know_all_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            names = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in names:
                    message = f'unknown key "{key}"{did_you_mean(str(key), names)}'
                    raise at([key], message)
        return data


class Shorthand(Strict):
    """Model of a mapping that can also be written as bare text, which then stands for one of its fields."""

    text_is: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        if isinstance(data, dict | cls):
            return data
        if isinstance(data, str):
            return {cls.text_is: data}
        hint = " (put it in quotes)" if isinstance(data, int | float) else ""
        raise ValueError(f"{_kind(data)} is neither text nor a mapping{hint}")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


class FirstErrorOfMany:
    """Annotation of a list: of more than `_MANY` items only the first wrong one is reported, as errors take memory."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        few = handler(source)
        many = {**few, "fail_fast": True}
        is_many = {True: "<many>", False: "<few>"}
        return core_schema.tagged_union_schema(
            {"<few>": few, "<many>": many},
            lambda given: is_many[isinstance(given, list) and len(given) > _MANY],
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        while schema["type"] != "tagged-union":  # validators stand around it
            schema = schema["schema"]
        return handler(schema["choices"]["<few>"])


def exactly_one_of(model: Strict, *keys: str, hint: str = "") -> str:
    """The one of these keys that is given. Raises ValueError, ending with `hint`, if it is none or several."""
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) != 1:
        found = f", not {' and '.join(given)}" if given else ""
        raise ValueError(f"give exactly one of {', '.join(keys[:-1])} and {keys[-1]}{found}{hint}")
    return given[0]


def at(position: list[str | int], message: str) -> PydanticCustomError:
    """Error about a value at `position` below the model that raises it."""
    return PydanticCustomError("at", "{message}", {"message": message, "position": position})


def validate(model: type[ModelT], document: Document, context: dict[str, Any] | None = None) -> ModelT:
    """Validate a document as a `model`. Raises one `RequestError`, with a line for each error found."""
    try:
        return model.model_validate(document.data, context=context)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A list whose items are all wrong is also reported as empty.
        real = [details for details in found if details["type"] != "too_short" or not details["input"]]
        errors = [_located(document, details) for details in real or found]
    errors.sort(key=lambda found: found.line or 0)
    first = errors[0]
    lines = [first.message, *(str(other) for other in errors[1:_MAX_SHOWN])]
    if len(errors) > _MAX_SHOWN:
        lines.append(f"(and {len(errors) - _MAX_SHOWN} more)")
    raise RequestError("\n".join(lines), file=first.file, line=first.line, field=first.field)


def first_message(error: ValidationError) -> str:
    """First message of an error about a value that is not in a document: its field and what is wrong."""
    details = error.errors(include_url=False)[0]
    context = details.get("ctx", {})
    field = field_name(_position(details, context))
    return f"{field}: {_message(details, context)}" if field else _message(details, context)


def _located(document: Document, details: ErrorDetails) -> RequestError:
    context = details.get("ctx", {})
    message = _message(details, context)
    shown = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…"
    return document.error(_position(details, context), shown)


def _position(details: ErrorDetails, context: dict[str, Any]) -> Position:
    """Position of the wrong value. A discriminated union puts its tag into the location; ours are in angle brackets."""
    position: Position = tuple(key for key in details["loc"] if not str(key).startswith("<"))
    return position + tuple(context.get("position", ()))


def _message(details: ErrorDetails, context: dict[str, Any]) -> str:
    """Message of a pydantic error in this project's words."""
    value = details["input"]
    shown = f'"{_short(value)}"' if isinstance(value, str) else _kind(value)
    bound = next((f"{context[key]}" for key in ("ge", "gt", "le", "lt") if key in context), "")
    match details["type"]:
        case "at":
            return str(context["message"])
        case "value_error":
            return str(context["error"])
        case "missing":
            return "is missing"
        case "literal_error":
            expected = re.findall(r"'([^']*)'", context["expected"])
            hint = did_you_mean(str(value), expected) or f" ({context['expected'].replace(chr(39), chr(34))})"
            return f"{shown} is not known here{hint}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{shown} is not a mapping"
        case "list_type" | "tuple_type":
            return f"{shown} is not a list"
        case "string_type":
            return f"{shown} is not text" + (" (put it in quotes)" if isinstance(value, int | float) else "")
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{shown} is not a whole number"
        case "path_type":
            return f"{shown} is not the name of a file"
        case "bool_type" | "bool_parsing":
            return f"{shown} is neither true nor false"
        case "float_type" | "float_parsing" | "finite_number":
            return f"{shown} is not a number"
        case "greater_than_equal":
            return f"{shown} is less than {bound}"
        case "greater_than":
            return f"{shown} is not more than {bound}"
        case "less_than_equal":
            return f"{shown} is more than {bound}"
        case "less_than":
            return f"{shown} is not less than {bound}"
        case "too_short" | "string_too_short":
            return "is empty"
    return f"{shown}: {details['msg']}"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[:40]}…"


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)
