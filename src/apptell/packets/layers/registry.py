"""Registers the functions that open link layers, and compiles one function that opens any of them.

Such a function takes ``(buffer, at, end, wire_end, ethertype)``: the layer's first byte is ``buffer[at]``,
the captured bytes end at ``end``, those on the wire at ``wire_end``, and ``ethertype`` is the type that the
layer before announced. It returns ``(layer, at, wire_end, ethertype)``: the layer within, where that begins,
where its bytes on the wire end, and what is announced; or minus a ``Status`` in place of the layer where the
packet goes no further. It checks that a byte lies before ``end`` before it reads it.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import MissingError, UsageError
from apptell.kernels.compiled import before_compiling, extended_by, subroutine
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import FIRST_FREE, IP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

LAYERS: Final[dict[int, Any]] = {}
"""The function that opens each layer."""
LAYER_OF_LINK: Final[NDArray[np.uint8]] = np.zeros(512, dtype=np.uint8)
"""The first layer of a frame by LINKTYPE_ value; 0 for link types that are not known, or beyond."""
LAYER_OF_LINK[[12, 14, 101, 228, 229]] = IP  # 12 and 14 are DLT_RAW of most systems and of OpenBSD
ENTRY_POINTS: Final = "apptell.link_layers"
"""Group of entry points under which a package names its modules of link layers."""
_MAX_LAYERS: Final = 256
_in_use = False


def link_layer(
    number: int | None = None, *, link_types: Sequence[int] = ()
) -> Callable[[Any], Any]:
    """Declares the function that opens a layer; see the module for what it takes and returns.

    Args:
        number: the layer's number, where other layers lead to it.
        link_types: LINKTYPE_ values, 0 to 511, of captures whose frames begin with the layer.

    Raises:
        UsageError: a decoder was made before, the number is taken, or a link type is not 0 to 511.
    """

    def declare(function: Any) -> Any:
        if _in_use:
            raise UsageError("a link layer has to be declared before the first packet is decoded")
        layer = max({FIRST_FREE - 1, *LAYERS}) + 1 if number is None else number
        if layer in LAYERS or not 0 < layer < _MAX_LAYERS:
            raise UsageError(f"layer number {layer} is taken or not 1 to {_MAX_LAYERS - 1}")
        for link_type in link_types:
            if not 0 <= link_type < len(LAYER_OF_LINK):
                raise UsageError(f"link type {link_type} is not 0 to {len(LAYER_OF_LINK) - 1}")
        if not function.__module__.startswith(f"{__name__.partition('.')[0]}."):
            extended_by(function.__module__)
        LAYERS[layer] = subroutine(function)
        LAYER_OF_LINK[list(link_types)] = layer
        return LAYERS[layer]

    return declare


def use_table() -> None:
    """Adds the layers of other packages; afterwards the table is final, since a decoder is compiled from it.

    Raises:
        MissingError: a package's module of link layers cannot be loaded.
    """
    global _in_use  # one table for the process, as there is one compiled decoder
    if _in_use:
        return
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except (ImportError, AttributeError) as error:
            raise MissingError(
                f"the link layers {point.name} ({point.value}) cannot be loaded: {error}"
            ) from error
    _in_use = True


def open_layer(
    layer: int, buffer: NDArray[np.uint8], at: int, end: int, wire_end: int, ethertype: int
) -> tuple[int, int, int, int]:
    """Opens one layer in Python; kernels run a function that is compiled from the same table."""
    if layer not in LAYERS:
        return -int(Status.UNKNOWN_LINK_TYPE), at, wire_end, ethertype
    opened: tuple[int, int, int, int] = LAYERS[layer].py_func(buffer, at, end, wire_end, ethertype)
    return opened


def _teach_numba() -> None:
    from numba import extending

    from apptell.kernels.inner import INNER

    overload: Any = extending.overload
    overload(open_layer, jit_options=INNER)(_open_layer)


before_compiling(_teach_numba)


def _open_layer(layer, buffer, at, end, wire_end, ethertype):  # noqa: ARG001
    """Builds a function that compares the layer with each number: compiled code cannot call by number."""
    lines = ["def ladder(layer, buffer, at, end, wire_end, ethertype):"]
    for number in LAYERS:
        lines += [
            f"    if layer == {number}:",
            f"        return open_{number}(buffer, at, end, wire_end, ethertype)",
        ]
    lines.append(f"    return -{int(Status.UNKNOWN_LINK_TYPE)}, at, wire_end, ethertype")
    names: dict[str, Any] = {f"open_{number}": LAYERS[number] for number in LAYERS}
    exec("\n".join(lines), names)  # every line of it stands above
    return names["ladder"]
