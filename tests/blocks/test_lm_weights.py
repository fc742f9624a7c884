"""Sizes and names of published Mamba LMs, read from their tensors."""

from dataclasses import replace

import pytest
import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.mamba_lm import kept_in_float32, read_config, source_names, untie
from deltaprune.errors import UserError
from deltaprune.mllm.lm import MambaLM
from deltaprune.tensors import Sizes, shapes

SMALL = MambaConfig(d_model=24, n_layers=3, vocab_size=29, d_state=5, d_conv=3, expand=3, dt_rank=7)


def published(config: MambaConfig, prefix: str = "", plural: bool = False) -> dict[str, torch.Tensor]:
    """A state dict on "meta" in another spelling."""
    with torch.device("meta"):
        tensors = MambaLM(config).state_dict()
    return {prefix + (name.replace("embedding", "embeddings") if plural else name): t for name, t in tensors.items()}


@pytest.mark.parametrize("config", [MambaConfig(), SMALL, replace(SMALL, dt_rank=None)], ids=["2.8b", "small", "auto"])
@pytest.mark.parametrize(("prefix", "plural"), [("llm.", False), ("llm.mamba.", True), ("", True)])
def test_sizes_and_names(config: MambaConfig, prefix: str, plural: bool) -> None:
    found = published(config, prefix, plural)
    assert read_config(shapes(found), config.vocab_size) == config
    names = source_names(published(config), found)
    assert list(names.values()) == list(found)
    assert names["backbone.norm_f.weight"] == prefix + "backbone.norm_f.weight"


def test_one_misshapen_layer_does_not_decide() -> None:
    found: dict[str, Sizes] = shapes(published(SMALL, "llm."))
    found["llm.backbone.layers.0.mixer.A_log"] = (72, 9)
    assert read_config(found, 29) == SMALL


def test_another_model_is_refused() -> None:
    mamba2 = {name: t[..., 0] if name.endswith("A_log") else t for name, t in published(SMALL).items()}
    with pytest.raises(UserError, match=r"no Mamba-1 LM: no tensor's name ends in mixer.A_log with at least 2 axes"):
        read_config(shapes(mamba2), 29)


def test_a_smaller_vocabulary_that_pads_to_as_many_rows_fits() -> None:
    assert read_config(shapes(published(SMALL)), 28).vocab_size == 28  # 32 rows, as with 29


@pytest.mark.parametrize("vocabulary", [24, 33])
def test_the_tokenizer_must_fit(vocabulary: int) -> None:
    found = shapes(published(SMALL))
    with pytest.raises(UserError, match=f"The tokenizer knows {vocabulary} tokens, but .* has 32 rows instead of"):
        read_config(found, vocabulary)


def test_the_head_goes_and_zeros_come() -> None:
    embedding = torch.randn(29, 24)
    embedding[3, 3] = torch.nan  # another check's business: it equals itself
    tensors = {"llm.backbone.embeddings.weight": embedding, "llm.lm_head.weight": embedding.clone()}
    kept = untie(SMALL, tensors)
    assert kept.keys() == {"llm.backbone.embeddings.weight"}
    rows = kept["llm.backbone.embeddings.weight"]
    assert rows.shape == (32, 24)
    assert torch.equal(rows[:29].nan_to_num(), embedding.nan_to_num())
    assert rows[29:].eq(0).all()


@pytest.mark.parametrize("head", [torch.zeros(32, 24), torch.ones(32, 24).half(), torch.ones(29, 24)])
def test_an_untied_head_is_refused(head: torch.Tensor) -> None:
    tensors = {"backbone.embedding.weight": torch.ones(32, 24), "lm_head.weight": head}
    with pytest.raises(UserError, match=r"^lm_head.weight differs from backbone.embedding.weight"):
        untie(SMALL, tensors)


def test_what_stays_in_float32() -> None:
    kept = [name for name in published(SMALL) if ".0." in name and kept_in_float32(name)]
    layer = "backbone.layers.0."
    assert kept == [layer + name for name in ("norm.weight", "mixer.A_log", "mixer.D", "mixer.dt_proj.bias")]
    assert kept_in_float32("backbone.norm_f.weight")
