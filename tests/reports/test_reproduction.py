import csv
import json

import numpy as np

from apptell.evaluation import evaluate_predictions, paper
from apptell.evaluation.claims import claims_of
from apptell.reports.page import write_page
from apptell.reports.reproduction import paper_sections

APPS = ("momo", "signal", "wechat")


def evaluated(seed, accuracy, apps=APPS, n=300):
    """A model that is sure of what it gets right and unsure of the rest."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, len(apps), n)
    right = random.random(n) < accuracy
    guess = np.where(right, truth, (truth + 1) % len(apps))
    confidence = np.where(right, 0.97, 0.6)
    rest = (1 - confidence) / (len(apps) - 1)
    probabilities = np.tile(rest[:, None], (1, len(apps)))
    probabilities[np.arange(n), guess] = confidence
    return evaluate_predictions([apps[i] for i in truth], probabilities.astype(np.float32), apps)


def sections(**changes):
    cnn, forest = [evaluated(s, 0.98) for s in (0, 1)], [evaluated(s, 0.9) for s in (0, 1)]
    given = {
        "schedule": "REDUCED: 3 epochs instead of the paper's 100, 2 seeds",
        "flows": {"momo": 100, "signal": 100, "wechat": 100},
        "n_background": 50,
        "cnn": cnn,
        "forest": forest,
        "with_other": [],
        "after": [0.5, 0.6, 0.7, 0.8, 0.9],
        "p_values": [0.01, 0.2],
        "claims": [(c.words, c.holds, c.found) for c in claims_of(cnn, forest, [])],
        "times": [("network", 10.0, 0.5, 3000, 300), ("forest", 1.0, 0.0, 1000, 300)],
        "limits": (5000.0, 20000.0),
        "seeds": (0, 1),
    }
    return {section.name: section for section in paper_sections(**{**given, **changes})}


def test_each_table_of_section_4_has_the_paper_s_own_numbers_beside_ours():
    found = sections()
    table4 = {row[0]: row[1:] for row in found["table4"].rows}
    assert table4["momo"][:3] == paper.TABLE_4_CNN["momo"]
    ours = found["table4"].rows[[row[0] for row in found["table4"].rows].index("mean")][4:]
    expected = np.mean([each.scores.macro_f1 for each in (evaluated(0, 0.98), evaluated(1, 0.98))])
    assert ours[2] == expected
    assert table4["signal"][:3] == (None, None, None)  # no app of the paper
    assert table4["tantan"][3:] == (None, None, None)  # none of ours
    table1 = {row[0]: row[1:] for row in found["table1"].rows}
    assert table1["all"] == (sum(paper.TABLE_1_FLOWS.values()), 300)
    assert table1["background (4.3)"] == (52_853, 50)


def test_a_reduced_schedule_stands_at_the_head_of_every_table_it_touches():
    untouched = {"table1", "table6-paper"}
    for name, section in sections().items():
        assert ("REDUCED: 3 epochs" in section.words) == (name not in untouched), name


def test_with_background_there_are_the_tables_of_section_4_3():
    with_other = [evaluated(seed, 0.9, ("momo", "other", "signal", "wechat")) for seed in (0, 1)]
    found = sections(with_other=with_other)
    assert {"other", "other-per-app", "fig4"} <= set(found)
    assert found["other"].rows[0][1:] == (*paper.WITH_OTHER_AT_THRESHOLD, paper.WITH_OTHER_COVERAGE)
    assert not {"other", "fig4"} & set(sections())


def test_speed_stands_beside_what_the_arithmetic_allows():
    times = sections()["times"]
    assert "5,000 flows a second of training" in times.words
    assert times.rows == [("network", "10.0", 300, 600), ("forest", "1.0", 1000, None)]


def test_every_table_is_a_csv_with_the_numbers_in_full(tmp_path):
    found = list(sections().values())
    write_page(tmp_path, "Title", [], found, {"a": 1})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": 1}
    for section in found:
        if section.rows:
            with (tmp_path / f"{section.name}.csv").open() as file:
                rows = list(csv.reader(file))
            assert len(rows) == len(section.rows) + 1
            for row, cells in zip(rows[1:], section.rows, strict=True):
                for text, cell in zip(row, cells, strict=True):
                    if isinstance(cell, float):
                        assert float(text) == cell
