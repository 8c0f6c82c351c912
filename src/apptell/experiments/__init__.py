"""Training with evaluation, comparison, audit, and reproduction of the paper."""
