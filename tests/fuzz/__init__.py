"""Good inputs, spoiled with knowledge of their structure: only the errors meant for bad input may come out.

    python -m tests.fuzz --mutants 1000000 --seed 1            # goes on where it stopped
    NUMBA_BOUNDSCHECK=1 python -m tests.fuzz --mutants 20000   # the kernels check every index

A kind of input is a module in ``targets`` with a ``Target``; nothing else has to know it.
"""
