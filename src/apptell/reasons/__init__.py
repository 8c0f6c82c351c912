"""Says why a verdict says what it says: evidence in order, and what a model's probabilities rest on.

Flows, verdicts and the model in; explanations out. No training framework is used, and nothing is learned.
"""

from apptell.reasons.explain import Explainer, Reasons, explain, explained_batches
from apptell.reasons.explanation import Contribution, EvidenceStep, Explanation, ModelReason

__all__ = [
    "Contribution",
    "EvidenceStep",
    "Explainer",
    "Explanation",
    "ModelReason",
    "Reasons",
    "explain",
    "explained_batches",
]
