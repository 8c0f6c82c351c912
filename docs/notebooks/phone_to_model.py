"""From a phone to a model: PCAPdroid's labels become a dataset, a model, and verdicts."""

import marimo

app = marimo.App()


@app.cell
def _():
    import tempfile
    from pathlib import Path

    import apptell
    import marimo as mo

    recording = Path(apptell.__file__).parent / "samples/pcapdroid"
    folder = Path(tempfile.mkdtemp(prefix="apptell-"))
    return apptell, folder, mo, recording


@app.cell
def _(mo):
    mo.md("""
    # From a phone to a model

    PCAPdroid writes the app of each packet into its captures, and a list of connections with the names of packages. The recording
    here is of seven apps of the traffic lab; `recording` can be a folder of your own.
    """)


@app.cell
def _(apptell, folder, recording):
    data = apptell.Dataset.build(recording, folder / "dataset")
    data.info["apps"], data.info["dropped"]
    return (data,)


@app.cell
def _(mo):
    mo.md("""
    One recording cannot tell how a model does on another day: all its flows share a network, a phone and an hour. So the model below
    learns from every flow and is **not measured**; *Why random splits flatter* shows why a split by chance would not help.
    """)


@app.cell
def _(apptell, data, folder):
    trained = apptell.train(data, "fast", split="none", out=folder / "model")
    apps = trained.model.apps
    apps
    return apps, trained


@app.cell
def _(apptell, folder, recording):
    verdicts = apptell.identify_table(
        recording / "phone.pcap", folder / "model", evidence="model", threshold=0
    )
    verdicts[["time", "server_address", "best_guess", "confidence", "runner_up"]]
    return (verdicts,)


@app.cell
def _(mo):
    mo.md("""
    These are the flows that it learned from, so that the answers say only that it can tell them apart. Record again on another day,
    build both into one dataset with `--group day=...`, and train with `--split day`: then `trained.test` says what the model is worth.
    """)


if __name__ == "__main__":
    app.run()
