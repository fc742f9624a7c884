"""Images in, patch features out, and nothing else; the towers come from transformers.

Nothing is imported here: a benchmark that reads a picture needs PIL and numpy, and should not wait for torch.
"""
