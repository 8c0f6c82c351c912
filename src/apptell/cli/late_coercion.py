"""Converts the values of options with Typer's library for types only where a value needs it.

Newer versions of Typer have pydantic convert every value, also texts to texts and defaults to themselves.
Loading pydantic takes a tenth of the time that a small capture takes. Earlier versions have no such step, and
nothing is changed there.
"""

from __future__ import annotations

from typing import Any, Final, get_args

import typer

_TEXTS: Final = (str, str | None)
_LISTS: Final = (list[str], list[str] | None)
_SLOT: Final = "_runtime_param"


def convert_late(parameters: list[Any]) -> list[Any]:
    """The parameters, each of which looks at its value before it makes a converter."""
    for parameter in parameters:
        if getattr(parameter, _SLOT, parameter) is None:
            setattr(parameter, _SLOT, _Converter(parameter))
    return parameters


class _Converter:
    """What Typer calls to convert the value of one parameter."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value that the verb gets."""
        is_many = param.multiple or param.nargs == -1
        if value is None:
            return () if is_many else None
        described = self._parameter.type_descriptor
        wanted = described.annotation
        is_plain = getattr(described.parameter_info, "parser", None) is None
        if is_plain and not is_many and type(value) is str and wanted in _TEXTS:
            return value
        if is_plain and is_many and wanted in _LISTS and _are_texts(value):
            return list(value)
        if is_plain and not is_many and type(value) is wanted and value == param.default:
            return value
        setattr(self._parameter, _SLOT, None)
        converter = self._parameter.get_runtime_param()  # Typer's own
        try:
            return converter.coerce(value, param=param, ctx=ctx)
        except typer.BadParameter as error:
            if words := _wanted_number(wanted, described.parameter_info):
                error.message = (
                    f"{value!r} is not {words}" if is_many else f"{value} is not {words}"
                )
            raise


def _wanted_number(wanted: Any, option: Any) -> str | None:
    """Which numbers an option takes, in words; None where it takes no number."""
    kinds = set(get_args(wanted)) | {wanted}
    if not kinds & {int, float}:
        return None
    kind = "a number" if float in kinds else "a whole number"
    least, most = getattr(option, "min", None), getattr(option, "max", None)
    if least is not None and most is not None:
        return f"{kind} from {least} to {most}"
    if least is not None:
        return f"{kind} of at least {least}"
    return kind if most is None else f"{kind} of at most {most}"


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(each) is str for each in value)
