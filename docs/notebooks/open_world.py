"""Open world: what a model does with flows of an app that it never saw."""

import marimo

app = marimo.App()


@app.cell
def _():
    import tempfile
    from pathlib import Path

    import apptell
    import marimo as mo

    samples = Path(apptell.__file__).parent / "samples"
    recordings = sorted(path.parent for path in samples.glob("*/recording.json"))
    left_out = "mumble"
    return Path, apptell, left_out, mo, recordings, tempfile


@app.cell
def _(mo):
    mo.md("""
    # Open world

    A model must choose among the apps that it knows, and a network has many more. Here one app is left out of training, and the model is
    asked about its flows.
    """)


@app.cell
def _(Path, apptell, recordings, tempfile):
    data = apptell.Dataset.build(recordings, Path(tempfile.mkdtemp(), "dataset"), labels="folders")
    model = apptell.train(data, "fast", split="source").model
    return data, model


@app.cell
def _(apptell, data, left_out, model):
    result = apptell.evaluate(model, data, split="source", unlearned=[left_out])
    result.evaluation
    return (result,)


@app.cell
def _(left_out, mo, result):
    figures = result.open_set
    auroc, caught, realised = figures.auroc, figures.caught, figures.realised
    mo.md(f"""
    In the table above, every flow of `{left_out}` that is not declined goes to an app that it is not. Recognising unknown flows
    ranks them by how little they look like the apps of the model: AUROC **{auroc:.3f}**, where 0.5 is chance. With at most 5 % of flows of
    known apps called unknown, **{caught:.0%}** of the flows of `{left_out}` are caught, and **{realised:.1%}** of the known ones are lost.

    The threshold was chosen on held-out groups, not on these flows. A good ranking does not make a good threshold on few recordings, and
    another app left out gives another figure: `apptell compare --unlearned each` leaves out each in turn.
    """)
    return auroc, caught, realised


if __name__ == "__main__":
    app.run()
