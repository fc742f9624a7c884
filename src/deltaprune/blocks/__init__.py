"""Recurrent blocks: packed rows in, packed rows out, states in hand."""
