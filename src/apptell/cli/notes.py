"""Notes on stderr that several verbs share, about captures and models."""

from typing import TYPE_CHECKING

from apptell.cli.screen import note

if TYPE_CHECKING:
    from apptell.flows import FlowStats
    from apptell.models import Model
    from apptell.verdicts import Evidence

_KINDS = {
    "name": "server names",
    "dns": "DNS answers",
    "address": "addresses reached before",
    "range": "address ranges",
}
"""Kinds of evidence in words."""


def note_known_apps(model: "Model", *, embedded: bool) -> None:
    """Reports which apps a model knows and that it knows no others; with the embedded one, how to train one."""
    known = [app for app in model.apps if app != "other"]
    other = " and background traffic (other)" if "other" in model.apps else ""
    which = "The embedded model" if embedded else "The model"
    note(
        f"{which} {model.name}@{model.hash} knows {', '.join(known)}{other}; it knows no other app "
        "and may mistake others for these."
    )
    if embedded:
        note(
            "To train your own model: apptell dataset build CAPTURES/ -o DATASET, then "
            "apptell train DATASET -o MODEL, then apptell identify -m MODEL."
        )


def note_unknown(model: "Model", rate: float) -> None:
    """Reports what held-out flows say of a rate of unknown verdicts."""
    facts = model.info.get("unknown", {})
    note(
        "Flows that look like no app of the model are marked unknown. For flows of its apps the stated rate "
        f"is {rate:.1%}; on other networks the real one can differ. It was set on "
        f"{facts.get('flows', 0):,} held-out flows from {facts.get('groups', 0):,} groups. "
        f"Realised on held-out groups: {_rates(facts.get('realised', {}))}."
    )


def _rates(realised: dict[str, float]) -> str:
    return ", ".join(f"{found:.1%} at {float(rate):.0%}" for rate, found in realised.items())


def note_evidence(evidence: "Evidence") -> None:
    """Reports how apps are identified without a model, and how many the catalogue lists."""
    kinds = [words for kind, words in _KINDS.items() if kind in evidence.options.kinds]
    note(
        f"Apps are identified by {', '.join(kinds)}. The catalogue lists {len(evidence.known_apps):,} apps. "
        "To list names that it lacks: apptell catalogue check CAPTURE."
    )


def note_evicted(stats: "FlowStats") -> None:
    """Reports how many flows ended early because the table was full, if any did."""
    if stats.evicted:
        note(f"{stats.evicted:,} flows ended early: the table was full (--max-flows).")


def note_other_lengths(model: "Model | None", stats: "FlowStats") -> None:
    """Warns where a model on payload learned from whole packets and these are cut, or the reverse."""
    from apptell.models.model import MANY_CUT

    if model is None or model.cut_share is None or not stats.packets:
        return
    share = stats.capture.cut_packets / stats.packets
    if share > MANY_CUT >= model.cut_share:
        note(
            f"{share:.1%} of the packets were cut by the snap length of the capture, and the model "
            f"{model.name} learned from whole packets: it decides no flow that lacks more than a tenth of its "
            "first payload bytes (outcome: cut payload). Capture whole packets."
        )
    elif share <= MANY_CUT < model.cut_share:
        note(
            f"The model {model.name} learned from packets that were cut by a snap length, and these are "
            "whole: its verdicts are less reliable. Train it on captures of whole packets."
        )


def note_snap_length(model: "Model | None", snap: int | None) -> None:
    """Warns where an interface's packets will be cut shorter than what the model learned from."""
    from apptell.verdicts.cut_payload import WANTED_BYTES

    if model is not None and model.needs_whole_packets and snap is not None and snap < WANTED_BYTES:
        note(
            f"The model {model.name} learned from whole packets: it decides no flow of which --snap {snap} "
            "cuts more than a tenth of the first payload bytes (outcome: cut payload)."
        )


def note_left_out(stats: "FlowStats") -> None:
    """Reports how to read a capture whose only packets are of the transport protocol that was left out."""
    if stats.not_asked and not stats.in_flows:
        note(
            f"{stats.not_asked:,} packets belong to a transport protocol that was not read; "
            "--transport tcp,udp reads both."
        )


def refuse_no_flows(stats: "FlowStats") -> None:
    """Refuses a capture without flows.

    Raises:
        CaptureError: no packet became part of a flow.
    """
    from apptell.errors import CaptureError

    if not stats.in_flows:
        names = ", ".join(stats.capture.names[:3]) or "-"
        note_left_out(stats)
        raise CaptureError(f"{names}: no flow among {stats.packets:,} packets")
