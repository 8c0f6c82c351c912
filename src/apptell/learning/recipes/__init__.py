"""Recipes, one module for each model: its name, its inputs, and how it is trained.

``my_model.py`` with a ``RECIPE`` of the name ``my-model`` is found by ``apptell train --model my-model``. A
model of another package is found by an entry point of the group ``apptell.models`` instead.
"""
