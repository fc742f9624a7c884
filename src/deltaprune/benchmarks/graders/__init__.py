"""How answers are graded: the official rules of each benchmark and the variants that other harnesses run.

`protocols.py` names them; every other file holds one kind of rule. Nothing here reads a model or a data file, and
nothing here is registered: a benchmark takes its dictionary of protocols from `protocols.py`.
"""
