"""Images in, patch features out, and nothing else; the towers come from transformers."""

from deltaprune.vision.towers import TowerConfig as TowerConfig
