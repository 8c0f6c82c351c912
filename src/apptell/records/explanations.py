"""Writes explanations of verdicts as text for people and as JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.text import Text

from apptell.reasons.explanation import EXACT, LOG_ODDS, PATHS, SHOWN
from apptell.records.terminal import TerminalConsole
from apptell.records.text_table import fit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apptell.encoding.token_sink import ByteSpan
    from apptell.reasons.explanation import Explanation, ModelReason
    from apptell.reasons.similar_flows import SimilarFlows

METHODS: Final = {
    EXACT: "the terms of a sum, which is the score",
    PATHS: "changes along the ways through the trees, which add up to the score",
    "occlusion": "the change of the score when this part is left out; changes do not add up",
}
"""What a contribution is, by method."""
NOT_A_REASON: Final = (
    "A reason says what the model used, not what is true of the app: a field can stand for the phone's TLS "
    "library, the network or the way of recording. Nothing here says that the app would behave otherwise if "
    "the field were another."
)
"""What a reason is not."""
_FIELD_WIDTH: Final = 18
_WORDS_WIDTH: Final = 76
_APP_WIDTH: Final = 28
_SHOWN_APPS: Final = 4


class ExplanationText:
    """Writes explanations one below the other."""

    def __init__(self, stream: TextIO, most: int = SHOWN) -> None:
        """Begins; ``most`` contributions are shown of each flow."""
        self._console = TerminalConsole(stream, soft_wrap=True)
        self._most = most
        self._is_first = True

    def write(self, found: Iterable[Explanation]) -> None:
        """Writes some explanations."""
        for each in found:
            if not self._is_first:
                self._line("")
            self._is_first = False
            self._write(each)
        self._console.file.flush()

    def _write(self, found: Explanation) -> None:
        verdict = found.verdict
        server = f"{verdict.server_address}:{verdict.server_port}"
        name = verdict.server_name or verdict.http_host or verdict.dns_name
        if name:
            server = f"{name} ({server})"
        client = f"{verdict.client_address}:{verdict.client_port}"
        app = verdict.app_name or verdict.app or verdict.service or verdict.outcome
        self._line(f"{client} -> {server}: {app}", "bold")
        self._line(f"  {verdict.community_id}", "dim")
        for number, step in enumerate(found.steps, 1):
            mark = "  <- decided" if step.decided else ""
            self._line(f"  {number}. {step.kind:<8} {step.words}{mark}")
        if found.model is not None:
            self._write_model(found.model)
        if found.similar is not None:
            self._write_similar(found.similar)

    def _write_model(self, reason: ModelReason) -> None:
        unit = "log odds" if reason.unit == LOG_ODDS else "votes"
        total = f"{reason.app} against {reason.runner_up}: {reason.total:+.3f} {unit}"
        if reason.adds_up:
            n = len(reason.contributions)
            total += f" = {reason.base:+.3f} before anything is known, and {n} parts"
        self._line(f"  {total}")
        self._line(f"  ({METHODS[reason.method]})", "dim")
        shown = reason.strongest(self._most)
        for each in shown:
            style = "green" if each.value > 0 else "red"
            line = Text(f"  {each.value:+8.3f}  ", style)
            line.append(f"{fit(each.field, _FIELD_WIDTH):<{_FIELD_WIDTH}}  ", "dim")
            line.append(f"{fit(each.words, _WORDS_WIDTH):<{_WORDS_WIDTH}}")
            line.append(f"  {places(each.spans)}", "dim")
            line.rstrip()
            self._console.print(line)
        rest = reason.contributions[len(shown) :]
        if rest and reason.adds_up:
            self._line(f"  {sum(each.value for each in rest):+8.3f}  {len(rest)} further parts")
        elif rest:
            self._line(f"            {len(rest)} further parts", "dim")
        if reason.unknown_parts:
            self._line(f"            {reason.unknown_parts} parts say nothing to the model", "dim")

    def _write_similar(self, similar: SimilarFlows) -> None:
        self._line(f"  {similar_words(similar)}")
        self._line(f"  ({similar.measure})", "dim")
        for each in similar.nearest:
            line = Text(f"  {each.similarity:8.3f}  ")
            line.append(f"{fit(f'{each.app}, group {each.group}', _APP_WIDTH):<{_APP_WIDTH}}  ")
            line.append(f"{each.n_shared} of {similar.n_parts} parts: ", "dim")
            line.append(fit("; ".join(each.shared), _WORDS_WIDTH))
            self._console.print(line)

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style))


def similar_words(similar: SimilarFlows) -> str:
    """Which apps the most similar flows of a training set are of, in a sentence."""
    if not similar.apps:
        return f"None of the {similar.n_rows:,} flows of the training set is like this one."
    shown = [f"{n} of {app}" for app, n in similar.apps[:_SHOWN_APPS]]
    others = similar.n_counted - sum(n for _, n in similar.apps[:_SHOWN_APPS])
    shown += [f"{others} of others"] if others else []
    return (
        f"The {similar.n_counted} most similar of the {similar.n_rows:,} flows of the training set: "
        f"{', '.join(shown)}."
    )


def explanation_line(found: Explanation) -> str:
    """An explanation as one JSON object, without payload bytes and without a line feed."""
    return json.dumps(rounded(found.to_dict()), ensure_ascii=False)


def rounded(value: Any) -> Any:
    """Plain values with floats of six digits behind the point."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    return value


def places(spans: tuple[ByteSpan, ...]) -> str:
    """Where bytes lie, in words: ``packet 1, bytes 76 to 107``."""
    texts = [f"packet {s.segment + 1}, bytes {s.start} to {s.stop - 1}" for s in spans[:2]]
    more = len(spans) - len(texts)
    return "; ".join(texts) + (f"; {more} more" if more else "")
