"""What a method costs: in closed form without weights or device (`macs`), and measured (`latency`, `timing`)."""

from deltaprune.cost.macs import Cost as Cost
from deltaprune.cost.macs import decode_macs as decode_macs
from deltaprune.cost.macs import macs as macs
from deltaprune.cost.macs import share_of as share_of
from deltaprune.cost.macs import tokens_kept as tokens_kept
from deltaprune.cost.macs import visual_tokens_per_layer as visual_tokens_per_layer
