"""A real Ray cluster on the loopback interface."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import NODE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A cluster of one node, to which tests add others; workers get what the test module defines."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    cloudpickle: Any = pytest.importorskip("ray.cloudpickle")
    cluster_utils: Any = pytest.importorskip("ray.cluster_utils")

    cloudpickle.register_pickle_by_value(sys.modules[request.module.__name__])
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False}
    )
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level="error")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
