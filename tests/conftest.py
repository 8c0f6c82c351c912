"""Settings of every test run."""

from __future__ import annotations

import os

# Matrices in tests are small. Numeric libraries that share them among threads spend most of their time waiting
# for each other, and several workers of the test run would compete for the same cores.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
