"""One file a model: its name, its inputs, and how it is trained.

``my_model.py`` with a ``RECIPE`` of the name ``my-model`` is found by ``apptell train --model my-model``. A
model of another distribution is found by an entry point of the group ``apptell.models`` instead.
"""
