"""The Mamba-1 language model: packed rows in, packed rows out, states in hand."""

from deltaprune.mamba.backbone import MambaLM as MambaLM
from deltaprune.mamba.config import MambaConfig as MambaConfig
from deltaprune.mamba.layer import Layer as Layer
from deltaprune.mamba.layer import State as State
