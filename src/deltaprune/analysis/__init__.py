"""Pictures and curves of what pruning does; figures take arrays and return an image."""

from deltaprune.analysis.overlay import overlay as overlay
