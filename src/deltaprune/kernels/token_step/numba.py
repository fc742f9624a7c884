"""The token on CPUs: one launch for the whole LM.

Between two launches Python runs for 30 us, with its own data gone from the caches that the weights passed through; of a
model with int4 weights that is a twentieth of a token's time. The layers' weights and states are found by their
addresses: a layer's arrays are those of the first layer elsewhere in memory.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numba import prange
from numba.core import cgutils, types
from numba.extending import overload
from torch import Tensor

from deltaprune.kernels._backend import Backend, forced
from deltaprune.kernels._numba import compiled, instruction, launch, widen
from deltaprune.kernels._numba_layer import MOST_SAMPLES, as_float, flat, held, layer, matrix
from deltaprune.kernels._numba_products import round_rows, stretch
from deltaprune.kernels._numba_quantized import operand, product
from deltaprune.kernels._numba_step import norm
from deltaprune.kernels._numba_widen import widen_row
from deltaprune.kernels.token_step import LayerState, reference
from deltaprune.kernels.token_step._weights import TokenWeights


@instruction
def _at(typingctx, array, address):
    """The array of this type and size at another address; it does not own its memory."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        moved = context.make_array(signature.args[0])(context, builder, args[0])
        moved.data = builder.inttoptr(args[1], moved.data.type)
        moved.meminfo = cgutils.get_null_value(moved.meminfo.type)
        moved.parent = cgutils.get_null_value(moved.parent.type)
        return moved._getvalue()

    return array(array, types.intp), emit


def _elsewhere(like, places, k):
    """A matrix of another layer: its numbers are at place k, and at k + 1 its scales, if it is quantized."""
    raise NotImplementedError("for compiled code")


@overload(_elsewhere)
def _of_another_layer(like, places, k):
    if isinstance(like, types.BaseTuple):
        return lambda like, places, k: (_at(like[0], places[k]), _at(like[1], places[k + 1]), like[2])
    return lambda like, places, k: _at(like, places[k])


@compiled()
def _copy_row(embedding, row, width, x, at):
    for i in range(width):
        x[np.uintp(at + i)] = widen(embedding[np.uintp(row * width + i)])


def _embed(embedding, row, width, x, at):
    """x[at:] = a row of the embedding, float32."""
    raise NotImplementedError("for compiled code")


@overload(_embed)
def _embed_row(embedding, row, width, x, at):
    if isinstance(embedding, types.BaseTuple):
        return lambda embedding, row, width, x, at: widen_row(embedding[0], embedding[1], row, width, x, at)
    return lambda embedding, row, width, x, at: _copy_row(embedding, row, width, x, at)


@compiled()
def _layers(
    gain, eps, in_proj, taps, tap_bias, x_proj, dt_proj, dt_bias, a, D, out_proj, ssm, conv,
    places, kept, batch, width, channels, order, rank, window, threads, x, out,
):  # fmt: skip
    """What leaves the last layer. Arrays are the first layer's, `places` and `kept` hold all layers' addresses."""
    for l in range(len(places)):
        p, k = places[l], kept[l]
        layer(
            x, _at(gain, p[0]), eps, _elsewhere(in_proj, p, 4), _at(taps, p[6]), _at(tap_bias, p[8]),
            _elsewhere(x_proj, p, 10), _elsewhere(dt_proj, p, 12), _at(dt_bias, p[14]), _at(a, p[16]), _at(D, p[18]),
            _elsewhere(out_proj, p, 20), batch, width, channels, order, rank, window, threads,
            _at(ssm, k[0]), _at(ssm, k[1]), _at(conv, k[2]), _at(conv, k[3]), out,
        )  # fmt: skip
        x, out = out, x
    return x


@compiled(parallel=True)
def _head(x, gain, eps, embedding, width, batch, rows, threads, like, logits):
    """The final norm and the product with the embedding."""
    normed = np.empty(batch * width, np.float32)
    for b in range(batch):
        norm(x, gain, eps, b * width, width, normed, like)
    read, unit = operand(normed, embedding, width, batch), stretch(rows, batch, threads)
    for block in prange((rows + unit - 1) // unit):
        first, last = block * unit, min(rows, block * unit + unit)
        product(embedding, width, first, last, read, width, batch, logits, rows)
        round_rows(logits, rows, batch, first, last, like)


@compiled()
def _token(ids, embedding, rows, gain, eps, first, places, kept, ssm, conv, sizes, logits):
    """Sizes: as `layer` takes them."""
    batch, width, channels, order, rank, window, threads = sizes
    x, out = np.empty(batch * width, np.float32), np.empty(batch * width, np.float32)
    for b in range(batch):
        _embed(embedding, ids[b], width, x, b * width)
    x = _layers(*first, ssm, conv, places, kept, batch, width, channels, order, rank, window, threads, x, out)
    _head(x, gain, eps, embedding, width, batch, rows, threads, conv[0], logits)


class _Held(NamedTuple):
    """What is made of an LM's weights once.

    Attributes:
        layers: of each layer, what `held` gives; they own the memory.
        alike: whether their arrays differ in nothing but their addresses, and the embedding has the layers' type.
        places: the addresses.
        head: the embedding, its rows, and the final norm.
        work: elementary steps of a token.
    """

    layers: list[tuple[Any, ...]]
    alike: bool
    places: np.ndarray
    head: tuple[Any, ...]
    work: int


_HELD: "WeakKeyDictionary[TokenWeights, _Held]" = WeakKeyDictionary()


def step(ids: Tensor, w: TokenWeights, states: Sequence[LayerState], in_place: bool) -> tuple[Tensor, list[LayerState]]:
    """See `token_step`.

    The operations run one by one for more samples than `MOST_SAMPLES`, a window of one, and layers of several types.
    """
    first, batch = w.layers[0], len(ids)
    (channels, order), rank, (rows, width) = first.A_log.shape, first.dt_proj.shape[1], w.embedding.shape
    window, other = first.conv.shape[1], dict(forced()).get("layer_step", "numba") != "numba"
    if other or not 0 < batch <= MOST_SAMPLES or window < 2 or 0 in (width, channels, order, rank, rows):
        return reference.step(ids, w, states, in_place)
    tokens = ids.tolist()
    if not all(0 <= token < rows for token in tokens):
        raise IndexError(f"The embedding has {rows} rows: there is none for the tokens {tokens}.")
    made, kind = _HELD.get(w) or _HELD.setdefault(w, _made(w)), first.in_proj.dtype
    if not made.alike:
        return reference.step(ids, w, states, in_place)
    old = [(ssm.detach().float().contiguous(), conv.detach().to(kind).contiguous()) for ssm, conv in states]
    new = old if in_place else [(torch.empty_like(ssm), torch.empty_like(conv)) for ssm, conv in old]
    kept = np.array([[t.data_ptr() for t in (a[0], b[0], a[1], b[1])] for a, b in zip(old, new, strict=True)])
    logits, sizes = torch.empty(batch, rows), (batch, width, channels, order, rank, window, torch.get_num_threads())
    launch(
        _token, made.work, np.array(tokens), *made.head, made.layers[0], made.places, kept,
        flat(old[0][0]), flat(old[0][1]), sizes, flat(logits),
    )  # fmt: skip
    return logits, new


def _made(w: TokenWeights) -> _Held:
    layers = [held(each) for each in w.layers]
    head = matrix(w.embedding), len(w.embedding), as_float(w.norm), np.float32(w.eps)
    work = sum(each.in_proj.numel() for each in w.layers) // 8 + w.embedding.numel() // 16
    forms = {tuple((a.dtype, a.shape, a.strides) for arrays in map(_arrays, each) for a in arrays) for each in layers}
    alike = len(forms) == 1 and w.embedding.dtype == w.layers[0].in_proj.dtype
    return _Held(layers, alike, np.array([_addresses(each) for each in layers]), head, work)


def _arrays(part: Any) -> list[np.ndarray]:
    """Of one of what `held` gives: itself, or a quantized matrix's."""
    return [each for each in (part if isinstance(part, tuple) else (part,)) if isinstance(each, np.ndarray)]


def _addresses(weights: tuple[Any, ...]) -> list[int]:
    """Two for each of what `held` gives: of an array and nothing, or of a quantized matrix's numbers and scales."""
    return [place for part in weights for place in ([array.ctypes.data for array in _arrays(part)] + [0, 0])[:2]]


BACKEND = Backend(
    op="token_step",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=step,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
