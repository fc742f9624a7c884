"""transformers' own models, pruned in place: hooks on their decoder layers, and nothing else of theirs is changed.

`with dp.DTP()(model)` finds `attach.attached` by itself; importing deltaprune never imports transformers for it.
"""
