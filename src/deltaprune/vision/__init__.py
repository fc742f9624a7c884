"""Images in, patch features out, and nothing else; the towers come from transformers.

Nothing is imported here: reading a picture needs PIL and numpy, and a benchmark that does so shall not wait for torch.
"""
