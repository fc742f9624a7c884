"""Decode steps and prefills that replay CUDA graphs."""
