"""transformers' own models behind the door that the commands use: a folder -> a `Hosted` and its `HostedProcessor`.

`dp.load(folder)` comes here where the folder's config.json names a family of `inplace`. Weights, processor, chat
template and `generate` are transformers' own; nothing is downloaded.
"""
