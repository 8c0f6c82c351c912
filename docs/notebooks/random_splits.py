"""Why random splits flatter: the same model, measured on flows of known networks and of an unseen one."""

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
    return Path, apptell, mo, recordings, tempfile


@app.cell
def _(mo):
    mo.md("""
    # Why random splits flatter

    Six recordings of the same apps: different days, networks and TLS libraries. A split by chance puts flows of every recording on both
    sides, so that a model is asked about networks that it has seen. A split by source leaves whole recordings out.
    """)


@app.cell
def _(Path, apptell, recordings, tempfile):
    data = apptell.Dataset.build(recordings, Path(tempfile.mkdtemp(), "dataset"), labels="folders")
    len(data), data.info["groups"]["source"]
    return (data,)


@app.cell
def _(apptell, data):
    by_chance = apptell.train(data, "fast", split="paper", seed=0).test
    by_source = apptell.train(data, "fast", split="source", seed=0).test
    by_chance.evaluation
    return by_chance, by_source


@app.cell
def _(by_source):
    by_source.evaluation


@app.cell
def _(by_chance, by_source, mo):
    optimistic, fair = by_chance.accuracy, by_source.accuracy
    mo.md(f"""
    By chance **{optimistic:.1%}**, on unseen recordings **{fair:.1%}**. The model is the same, and only the second question is the one
    that a sensor asks. The intervals of the second are wide, because there are few recordings: six sources are six observations,
    however many flows they have. `apptell compare --split source --seeds 5` repeats it with other divisions.
    """)
    return fair, optimistic


@app.cell
def _(apptell, by_source):
    axes = apptell.plot_confusion(by_source.evaluation)
    axes.figure
    return (axes,)


if __name__ == "__main__":
    app.run()
