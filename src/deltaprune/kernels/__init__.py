"""The parts of a Mamba layer and its step: each has a readable reference and fast backends behind one function.

Inference: packed sequences (no padding), an initial state in, the final state out.
"""

from deltaprune.kernels._backend import Backend as Backend
from deltaprune.kernels._backend import forced as forced
from deltaprune.kernels._backend import select as select
from deltaprune.kernels._backend import use as use
from deltaprune.kernels._device import on_device_of as on_device_of
from deltaprune.kernels._device import without_autocast as without_autocast
from deltaprune.kernels._memory import empty as empty
from deltaprune.kernels._memory import lent as lent
from deltaprune.kernels._memory import reuse as reuse
from deltaprune.kernels.causal_conv1d import causal_conv1d as causal_conv1d
from deltaprune.kernels.hidden_attention import hidden_attention as hidden_attention
from deltaprune.kernels.layer_rows import layer_rows as layer_rows
from deltaprune.kernels.layer_rows import layer_rows_fused as layer_rows_fused
from deltaprune.kernels.layer_step import LayerWeights as LayerWeights
from deltaprune.kernels.layer_step import layer_step as layer_step
from deltaprune.kernels.matmul import matmul as matmul
from deltaprune.kernels.matvec import matvec as matvec
from deltaprune.kernels.quantized import Quantized as Quantized
from deltaprune.kernels.quantized_matmul import quantized_matmul as quantized_matmul
from deltaprune.kernels.residual_add import residual_add as residual_add
from deltaprune.kernels.rms_norm import rms_norm as rms_norm
from deltaprune.kernels.scan_state import ScanState as ScanState
from deltaprune.kernels.scan_state import scan_state as scan_state
from deltaprune.kernels.selective_scan import Scan as Scan
from deltaprune.kernels.selective_scan import selective_scan as selective_scan
from deltaprune.kernels.softmax_attention import softmax_attention as softmax_attention
from deltaprune.kernels.token_step import TokenWeights as TokenWeights
from deltaprune.kernels.token_step import token_step as token_step
