"""Explain a verdict: the evidence in order, and what a model's score rests on."""

import marimo

app = marimo.App()


@app.cell
def _():
    from collections import Counter
    from pathlib import Path

    import apptell
    import marimo as mo

    samples = Path(apptell.__file__).parent / "samples"
    return Counter, apptell, mo, samples


@app.cell
def _(mo):
    mo.md("""
    # Explain a verdict

    Every verdict says what it rests on. By name, that is the row of the catalogue; by model, the protocol fields that add to its score.
    """)


@app.cell
def _(apptell, samples):
    explained = list(apptell.explain(samples / "named/named.pcap.xz"))
    sentences = [each.summary for each in explained]
    sentences[:10]
    return explained, sentences


@app.cell
def _(Counter, explained):
    kinds = Counter(each.verdict.evidence for each in explained)
    kinds
    return (kinds,)


@app.cell
def _(mo):
    mo.md("""
    The steps of one flow: each kind of evidence that was asked, in order, and what it answered.
    """)


@app.cell
def _(explained):
    explained[0].steps


@app.cell
def _(mo):
    mo.md("""
    Now the model that is embedded in apptell, which knows only the apps of the traffic lab, on a capture of such an app. Its score is a
    sum over fields, so that the parts add up exactly.
    """)


@app.cell
def _(apptell, samples):
    capture = samples / "day0-home-openssl-default/irc.pcap.xz"
    by_model = next(iter(apptell.explain(capture, evidence="model")))
    by_model
    return (by_model,)


@app.cell
def _(by_model):
    by_model.to_dict()


if __name__ == "__main__":
    app.run()
