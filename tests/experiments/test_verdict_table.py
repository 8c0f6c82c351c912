import numpy as np
import pyarrow.parquet as pq

import apptell
from apptell.testing import flow_batch


def test_every_tested_flow_has_a_row_with_its_truth_and_all_probabilities(tmp_path):
    groups = [{"source": f"s{i // 2 % 4}"} for i in range(40)]
    flows = flow_batch(["signal" if i % 2 else "zoom" for i in range(40)], groups=groups)
    apptell.compare(
        flows, ["paper-rf"], only=True, folds=2, seeds=2, held_out=0, out=tmp_path / "r"
    )
    table = pq.read_table(tmp_path / "r" / "paper-rf-names-on" / "verdicts.parquet")
    assert table.num_rows == 80
    assert sorted(set(table["seed"].to_pylist())) == [0, 1]
    assert sorted(set(table["fold"].to_pylist())) == [0, 1]
    both = np.stack([table[f"probability_{app}"].to_numpy() for app in ("signal", "zoom")], axis=1)
    np.testing.assert_allclose(both.sum(axis=1), 1, rtol=1e-5)
    guesses = np.array(["signal", "zoom"])[both.argmax(axis=1)]
    assert guesses.tolist() == table["best_guess"].to_pylist()
    assert set(table["true_class"].to_pylist()) == {"signal", "zoom"}
    found = apptell.evaluate(apptell.train(flows, "paper-rf", split="none").model, flows)
    rows = found.verdicts().to_arrow()
    right = np.array(rows["best_guess"].to_pylist()) == np.array(rows["true_class"].to_pylist())
    assert right.mean() == found.accuracy
