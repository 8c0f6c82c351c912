"""Softens or sharpens probabilities by a temperature.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks" (2017). A model, the rule for new
stacks, and every choice of a temperature or threshold use this one function, so that a threshold means the
same when it is chosen and when it is applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TINY: Final = 1e-12
"""The smallest probability, where no other is given."""
NO_FLOOR: Final = float(np.finfo(np.float32).tiny)
"""The smallest probability of a model whose calibration gives no floor: float32 has no smaller one."""


def calibrate(
    probabilities: NDArray[np.float32],
    temperature: float | NDArray[np.float64],
    floor: float = TINY,
) -> NDArray[np.float32]:
    """Divides the logarithms of probabilities by a temperature, and normalises the result.

    Args:
        probabilities: shape (n, k).
        temperature: above 1 softens, below 1 sharpens; the order of the apps does not change. A number, or
            one for each row, shape (n, 1).
        floor: smaller probabilities are raised to this value.

    Raises:
        UsageError: a temperature is not above 0.
    """
    if not np.all(np.asarray(temperature) > 0):
        raise UsageError(f"temperature {temperature} is not above 0")
    logits = np.log(np.maximum(probabilities.astype(np.float64), floor)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    scaled = np.exp(logits)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), dtype=np.float32)
