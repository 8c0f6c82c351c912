"""Explains models on tokens: exactly where the model is a sum, otherwise by leaving tokens out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from apptell.encoding.name_keys import N_KEY_WORDS
from apptell.encoding.structure import N_TOKENS
from apptell.encoding.token_meanings import token_meanings
from apptell.names.domains import registered_domain
from apptell.reasons.explanation import EXACT, LOG_ODDS, OCCLUSION, Contribution
from apptell.reasons.score import Pair, Reasoned, log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.encoding.token_sink import TokenSink
    from apptell.flows.schema import FlowBatch
    from apptell.models import Model
    from apptell.reasons.token_weights import TokenWeights


def meanings_of(flows: FlowBatch, model: Model) -> TokenSink:
    """What the tokens mean that a model reads of one flow; with the defaults for a model on other inputs."""
    options = model.options if model.info["inputs"] == "structure" else {}
    wanted = {name: options[name] for name in ("packets", "skip", "names") if name in options}
    return token_meanings(flows, **wanted)


def exact_reason(
    flows: FlowBatch,
    row: NDArray[np.uint16],
    sink: TokenSink,
    pair: Pair,
    weights: TokenWeights,
    temperature: float,
) -> Reasoned:
    """The terms of a linear model's score, app against runner-up.

    Args:
        flows: the flow.
        row: its input.
        sink: what its tokens mean.
        pair: the two apps.
        weights: of the model, for which ``weights.fits`` holds.
        temperature: of its calibration.
    """
    tokens, terms = weights.terms(row)
    values = (terms[:, pair.app] - terms[:, pair.runner_up]) / temperature
    found = [_of_token(sink, token, value) for token, value in _pairs(tokens, values)]
    base = float(weights.bias[pair.app] - weights.bias[pair.runner_up]) / temperature
    logs, mixed = weights.log_probabilities(row), weights.mixed(row)
    total = float(mixed[pair.app] - mixed[pair.runner_up]) / temperature
    at, is_host = weights.name_row(row)
    if at:
        before = float(logs[pair.app] - logs[pair.runner_up]) / temperature
        words = _known_name(_shown_name(flows, is_host=is_host), weights, at, pair.app)
        found.append(Contribution(total - before, "known name", words))
    n_tokens = int((row[:N_TOKENS] > 0).sum())
    return Reasoned(EXACT, LOG_ODDS, total, base, found, n_tokens - len(tokens))


def occluded_tokens(
    flows: FlowBatch, row: NDArray[np.uint16], sink: TokenSink, pair: Pair, model: Model
) -> Reasoned:
    """How the score of any model on tokens changes when one token, or the name's keys, are left out."""
    n_tokens = int((row[:N_TOKENS] > 0).sum())
    has_keys = len(row) > N_TOKENS and bool(row[N_TOKENS:].any())
    variants = np.repeat(row[None], n_tokens + has_keys, axis=0)
    for at in range(n_tokens):
        variants[at, at : N_TOKENS - 1] = row[at + 1 : N_TOKENS]
        variants[at, N_TOKENS - 1] = 0
    if has_keys:
        variants[n_tokens, N_TOKENS : N_TOKENS + N_KEY_WORDS] = 0
    total = float(log_odds(model, row[None], pair)[0])
    changes = total - log_odds(model, variants, pair)
    found = [
        _of_token(sink, token, value) for token, value in _pairs(row[:n_tokens], changes[:n_tokens])
    ]
    if has_keys:
        words = f"{_shown_name(flows, is_host=True)}, looked up in the names of the training data"
        found.append(Contribution(float(changes[n_tokens]), "known name", words))
    silent = [each for each in found if each.value == 0]
    found = [each for each in found if each.value != 0]
    return Reasoned(OCCLUSION, LOG_ODDS, total, 0.0, found, len(silent))


def occluded_names(flows: FlowBatch, row: NDArray[np.uint16], pair: Pair, model: Model) -> Reasoned:
    """The same for a model that reads only the name."""
    total = float(log_odds(model, row[None], pair)[0])
    without = float(log_odds(model, np.zeros_like(row)[None], pair)[0])
    words = f"{_shown_name(flows, is_host=True)}, looked up in the names of the training data"
    found = [Contribution(total - without, "known name", words)] if row.any() else []
    return Reasoned(OCCLUSION, LOG_ODDS, total, 0.0, found, 0)


def _pairs(
    tokens: NDArray[np.int64] | NDArray[np.uint16], values: NDArray[np.float64]
) -> list[tuple[int, float]]:
    return list(zip(tokens.tolist(), values.tolist(), strict=True))


def _of_token(sink: TokenSink, token: int, value: float) -> Contribution:
    meaning = sink.meanings.get(token)
    if meaning is None:
        return Contribution(value, "token", f"token {token}, whose field is not known", (), token)
    return Contribution(value, meaning.field, meaning.words, meaning.spans, token)


def _known_name(name: str, weights: TokenWeights, at: int, app: int) -> str:
    """What the training data say of a name: in how many sources it was seen, and how often with an app."""
    share = float(weights.name_apps[at, app])
    n = None if weights.name_sources is None else int(weights.name_sources[at])
    if n is None:
        return f"{name} is a name of the training data, there of this app in {share:.0%} of its sources"
    if n == 0:
        whose = "of this app" if share == 1 else "of another app"
        return f"{name} is not in the training data; the catalogue lists it as a name {whose}"
    times = "always" if share == 1 else "never" if share == 0 else f"in {share:.0%} of cases"
    sources = "1 source" if n == 1 else f"{n:,} sources"
    return f"{name} was seen in {sources} of the training data, {times} with this app"


def _shown_name(flows: FlowBatch, *, is_host: bool) -> str:
    names = [
        flows.column(column)[0].as_py()
        for column in ("server_name", "http_host")
        if column in flows.columns
    ]
    name = next(filter(None, names), None)
    if name is None:
        return "the server name"
    return str(name) if is_host else f"the domain {registered_domain(name) or name}"
