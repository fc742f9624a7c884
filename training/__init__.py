"""How the bundled model is made: tokenizer, lessons, differentiable forward pass, training loop, publication."""
