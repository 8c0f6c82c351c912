"""Says why a verdict says what it says: evidence in order, and what a model's probabilities rest on.

Flows, verdicts and the model in; explanations out. No training framework is used, and nothing is learned.
"""

from apptell.reasons.explain import Explainer, Reasons, explain, explained_batches
from apptell.reasons.explanation import Contribution, EvidenceStep, Explanation, ModelReason
from apptell.reasons.similar_flows import SHOWN_FLOWS, KeptFlows, SimilarFlow, SimilarFlows

__all__ = [
    "SHOWN_FLOWS",
    "Contribution",
    "EvidenceStep",
    "Explainer",
    "Explanation",
    "KeptFlows",
    "ModelReason",
    "Reasons",
    "SimilarFlow",
    "SimilarFlows",
    "explain",
    "explained_batches",
]
