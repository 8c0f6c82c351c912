"""Defines what an explanation of a verdict holds, as objects and as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from apptell.verdicts.schema import NAMED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from apptell.encoding.token_sink import ByteSpan
    from apptell.reasons.similar_flows import SimilarFlows
    from apptell.verdicts.schema import Verdict

EXACT, PATHS, OCCLUSION = "exact", "paths", "occlusion"
"""How a model's reasons were found. ``exact``: the terms of a sum, which is the score. ``paths``: how the votes
of trees change along the way of the flow; they add up to the votes. ``occlusion``: how the score changes when
one part of the input is taken away; such changes do not add up."""
LOG_ODDS, VOTES = "log odds", "share of votes"
"""Units of contributions: natural logarithm of the app's probability over the runner-up's; the app's share of
the trees' votes less the runner-up's."""
SHOWN: Final = 12
"""Contributions that are shown at first."""


class Contribution(NamedTuple):
    """What one part of a model's input adds to the app's score against the runner-up's."""

    value: float
    """Above 0 for the app, below 0 for the runner-up; in the unit of the reason."""
    field: str
    """Kind of field, such as ``record`` or ``server name``."""
    words: str
    """What was read there."""
    spans: tuple[ByteSpan, ...] = ()
    """The bytes it was read from; empty where it is not made of bytes of one place."""
    token: int | None = None
    """The token, of models on tokens."""


class EvidenceStep(NamedTuple):
    """One kind of evidence that was examined."""

    kind: str
    """One of ``EVIDENCE_KINDS``."""
    decided: bool
    """Whether the verdict rests on it."""
    words: str
    row: dict[str, str | None] | None = None
    """The catalogue's row, where there is one: domain or network, match, app or service, published, checked."""


@dataclass(frozen=True, slots=True)
class ModelReason:
    """What a model's score for one flow rests on."""

    model: str
    """``name@hash``."""
    method: str
    """EXACT, PATHS or OCCLUSION."""
    unit: str
    """LOG_ODDS or VOTES."""
    app: str
    runner_up: str
    probability: float
    """The model's, of the app, without context."""
    runner_up_probability: float
    total: float
    """The score of the app against the runner-up's. With ``exact`` and ``paths`` it is the sum of ``base`` and
    of all contributions."""
    base: float
    """What the model says of a flow of which it knows nothing."""
    contributions: tuple[Contribution, ...]
    """The largest first, by absolute value."""
    unknown_parts: int = 0
    """Parts of the input that the model never saw in training, so that they say nothing."""
    saliency: NDArray[np.float64] | None = None
    """Of models on images: contribution by pixel, shape (87, 87)."""

    @property
    def adds_up(self) -> bool:
        """Whether ``base`` and the contributions are terms of ``total``."""
        return self.method != OCCLUSION

    def strongest(self, n: int = SHOWN) -> tuple[Contribution, ...]:
        """The n largest contributions by absolute value."""
        return self.contributions[:n]


class SegmentBytes(NamedTuple):
    """The kept bytes of one payload packet, with its protocol fields."""

    to_server: bool
    length: int
    """Payload bytes on the wire."""
    data: bytes
    fields: tuple[tuple[int, int, str], ...]
    """Start, stop and name of each field, in order, not overlapping."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a verdict says what it says.

    Example:
        >>> found = next(apptell.explain("phone.pcap", "model/", evidence="model"))
        >>> found.verdict.app, found.model.method
        ('signal', 'paths')
    """

    verdict: Verdict
    steps: tuple[EvidenceStep, ...]
    """The evidence in the order in which it was examined, up to what decided."""
    model: ModelReason | None = None
    """None where no model was asked."""
    segments: tuple[SegmentBytes, ...] = field(default=(), repr=False)
    """The first payload packets; empty where they were not read."""
    similar: SimilarFlows | None = None
    """The most similar flows of the training set; None where they were not asked for."""

    @property
    def summary(self) -> str:
        """The reason in one or two sentences."""
        said = [step.words for step in self.steps if step.decided]
        verdict, reason = self.verdict, self.model
        if reason is not None:
            named = verdict.outcome == NAMED and verdict.evidence in ("model", "context")
            head = reason.app if named else f"{reason.app} ({verdict.outcome})"
            strongest = [each for each in reason.strongest(40) if each.value > 0][:3]
            parts = "; ".join(each.words for each in strongest) or "nothing in particular"
            text = f"for {head} rather than {reason.runner_up}: {parts}"
            against = next((each for each in reason.strongest(40) if each.value < 0), None)
            if against is not None:
                text += f". Against it: {against.words}"
            said.append(text)
        if not said:
            said = [self.steps[-1].words if self.steps else verdict.outcome]
        return ". ".join(text[:1].upper() + text[1:] for text in said) + "."

    def __repr__(self) -> str:
        return f"<Explanation of {self.verdict!r}: {self.summary}>"

    def to_dict(self, most: int | None = None) -> dict[str, Any]:
        """Plain values for JSON, without any payload bytes.

        Args:
            most: contributions that are given (default: all).
        """
        verdict = self.verdict
        found: dict[str, Any] = {
            "community_id": verdict.community_id,
            "start_ns": verdict.start_ns,
            "client": [verdict.client_address, verdict.client_port],
            "server": [verdict.server_address, verdict.server_port],
            "app": verdict.app,
            "outcome": verdict.outcome,
            "evidence": verdict.evidence,
            "confidence": _share(verdict.confidence),
            "reason": self.summary,
            "steps": [
                {"kind": step.kind, "decided": step.decided, "words": step.words, "row": step.row}
                for step in self.steps
            ],
            "model": None,
        }
        reason = self.model
        if reason is not None:
            chosen = reason.contributions if most is None else reason.contributions[:most]
            found["model"] = {
                "model": reason.model,
                "method": reason.method,
                "unit": reason.unit,
                "app": reason.app,
                "runner_up": reason.runner_up,
                "probability": _share(reason.probability),
                "runner_up_probability": _share(reason.runner_up_probability),
                "total": reason.total,
                "base": reason.base,
                "unknown_parts": reason.unknown_parts,
                "contributions": [
                    {
                        "value": each.value,
                        "field": each.field,
                        "words": each.words,
                        "bytes": [list(span) for span in each.spans],
                    }
                    for each in chosen
                ],
                "rest": sum(each.value for each in reason.contributions[len(chosen) :]),
            }
        if self.similar is not None:
            found["similar"] = self.similar.to_dict()
        return found


def _share(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)
