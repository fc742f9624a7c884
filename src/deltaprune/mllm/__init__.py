"""What an MLLM is made of: sizes, towers, projector and LM; and what goes into it: pictures, prompts, tokens."""
