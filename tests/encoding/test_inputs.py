from __future__ import annotations

import numpy as np
import pytest

from apptell.encoding import ENCODINGS, complete_options, encode, images, sequences, statistics
from apptell.errors import UsageError
from tests.encoding.crafted import batch, random_flow

FLOWS = batch([random_flow(np.random.default_rng(seed)) for seed in range(8)])


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_gives_the_shape_and_type_it_promises(name):
    encoding = ENCODINGS[name]
    array = encode(FLOWS, name)
    assert array.shape == (8, *encoding.shape(complete_options(name, {})))
    assert array.dtype == encoding.dtype


def test_a_name_gives_what_its_function_gives():
    np.testing.assert_array_equal(encode(FLOWS, "image"), images(FLOWS))
    np.testing.assert_array_equal(
        encode(FLOWS, "statistics", {"ports": False}), statistics(FLOWS, ports=False)
    )
    np.testing.assert_array_equal(
        encode(FLOWS, "sequence", {"length": 10, "packets": 10}),
        sequences(FLOWS, 10, packets=10),
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "picture",
            {},
            "there are no inputs 'picture'; available: image, statistics, structure, .*",
        ),
        ("image", {"ports": False}, "the inputs 'image' have no option 'ports'"),
        ("statistics", {"ports": "off"}, "the inputs 'statistics' do not accept ports='off'"),
        ("sequence", {"length": True}, "the inputs 'sequence' do not accept length=True"),
    ],
)
def test_what_does_not_exist_is_said(name, options, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        encode(FLOWS, name, options)
