"""One file a model: its name, its inputs, and how it is trained.

A file here is all it takes to add one: ``my_model.py`` with a ``RECIPE`` is found by
``apptell train --model my-model``.
"""
