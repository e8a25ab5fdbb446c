"""The paper's experiments as commands: its data sets, configurations, tables and controls.

A *source* is a data set on disk (``sources/``). It gives *problems*: one normal class to learn
from, images to judge (``problems.py``). A *row* is a method with its configuration (``rows.py``,
``published.py``). A *cell* is one row on one problem with one seed (``cells.py``); tables and
pictures are made of cells (``tables.py``).
"""
