"""A first look at a capture: the apps, what their verdicts rest on, and when they talked."""

import marimo

app = marimo.App()


@app.cell
def _():
    from pathlib import Path

    import apptell
    import marimo as mo

    capture = Path(apptell.__file__).parent / "samples/named/named.pcap.xz"
    return apptell, capture, mo


@app.cell
def _(mo):
    mo.md("""
    # A first look at a capture

    The capture has connections to servers that answer for the names of well-known apps. Put the path of a capture of your own into
    `capture` above, and every cell below follows. No model is needed: names identify many apps.
    """)


@app.cell
def _(apptell, capture):
    table = apptell.identify_table(capture)
    shown = table[
        ["time", "server_name", "dns_name", "app_name", "category", "evidence", "bytes_to_client"]
    ]
    shown
    return (table,)


@app.cell
def _(mo):
    mo.md("""
    `evidence` says what a verdict rests on: `name` is the flow's own server name, `dns` an answer that the client got before,
    `address` a server that it had reached by name, `range` an address range that belongs to one app.
    """)


@app.cell
def _(table):
    by_app = (
        table.assign(app_name=table["app_name"].fillna("(none)"))
        .groupby("app_name")
        .agg(flows=("app_name", "size"), down=("bytes_to_client", "sum"))
        .sort_values("flows", ascending=False)
    )
    n_flows, n_named = len(table), int(table["app"].notna().sum())
    by_app
    return by_app, n_flows, n_named


@app.cell
def _(apptell, capture):
    axes = apptell.plot_timeline(apptell.identify(capture))
    axes.figure
    return (axes,)


@app.cell
def _(mo, n_flows, n_named):
    mo.md(f"""
    {n_named} of {n_flows} flows have an app. What the others are: `apptell identify capture.pcap --not-named`, and
    `apptell catalogue check` lists names that the catalogue lacks.
    """)


if __name__ == "__main__":
    app.run()
