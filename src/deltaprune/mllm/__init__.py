"""The parts of an MLLM (sizes, towers, projector, LM) and its inputs (pictures, prompts, tokens)."""
