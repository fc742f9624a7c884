"""The workshop of the bundled model: tokenizer, lessons, differentiable forward pass, training loop."""
