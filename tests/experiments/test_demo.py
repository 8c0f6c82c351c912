"""The demonstration's model that does not learn one app."""

from pathlib import Path

import pytest

from apptell.errors import UsageError
from apptell.experiments.demo import UNLEARNED, leave_out_app
from apptell.experiments.samples import embedded_dataset


def test_the_app_that_is_left_out_is_one_of_the_samples_and_another_is_refused(
    tmp_path: Path,
) -> None:
    data = embedded_dataset(tmp_path / "samples")
    assert UNLEARNED in data.apps
    with pytest.raises(UsageError, match=r"^the dataset has no flow of 'signal'$"):
        leave_out_app(data, "signal")
