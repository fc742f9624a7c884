"""What Cobra's and RoboMamba's published files have in common: a Mamba LM and a projector, each under its own names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.checkpoint import Checkpoint
from deltaprune.checkpoints.mamba_lm import read_config, source_names, untie
from deltaprune.checkpoints.sizes import projector_prefix, projector_widths
from deltaprune.errors import UserError
from deltaprune.mllm.network import MLLMConfig, blank
from deltaprune.steps import Plan
from deltaprune.tensors import Sizes, check_tensors, shapes
from deltaprune.vision.towers import TowerConfig
from deltaprune.vision.weights import tower_names, tower_weights


@dataclass(frozen=True)
class Tower:
    """A published tower: its sizes, its tensors under their own names, and the file that each of them is in."""

    config: TowerConfig
    tensors: Mapping[str, Tensor]
    files: Mapping[str, Path]


def assemble(
    published: MLLMConfig,
    towers: Mapping[str, Tower],
    tensors: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    files: Mapping[str, Path],
) -> Checkpoint:
    """Towers, projector and LM together, every name and shape checked.

    Args:
        published: the family's model, for what the tensors cannot say: name, template, plan.
        towers: the towers by name.
        tensors: projector and LM under the checkpoint's own names.
        tokenizer: of the LM.
        files: what was read; `files["checkpoint"]` holds `tensors`.

    Raises:
        UserError: a name is missing, unexpected or misshapen, the head is not tied, or the tokenizer is another LM's.
    """
    file, found = files["checkpoint"], shapes(tensors)
    lm = read_config(found, tokenizer.get_vocab_size())
    if lm.d_model == published.lm.d_model:  # the published LM: if its last layers are missing, the check below says so
        lm = replace(lm, n_layers=published.lm.n_layers)
    config = replace(
        published,
        towers={name: tower.config for name, tower in towers.items()},
        projector=projector_widths(found, str(file)),
        lm=lm,
        plan=plan_for(published, lm),
    )
    _check_towers(config, found, file)
    tensors = untie(lm, tensors)
    whole = shapes(blank(config).state_dict())
    wanted = {name: shape for name, shape in whole.items() if not name.startswith("vision.")}
    names = _source_names(wanted, found)
    check_tensors(str(file), {names[ours]: shape for ours, shape in wanted.items()}, shapes(tensors))
    weights, sources = {}, {}
    for name, tower in towers.items():
        held = tower_weights(tower.config, tower.tensors)
        weights |= {f"vision.{name}.{ours}": weight for ours, weight in held.items()}
        theirs = tower_names(tower.config, tower.tensors)
        sources |= {f"vision.{name}.{ours}": f"{tower.files[key].name}: {key}" for ours, key in theirs.items()}
    return Checkpoint(
        config=config,
        tokenizer=tokenizer,
        weights={**weights, **{ours: tensors[theirs] for ours, theirs in names.items()}},
        sources={**sources, **{ours: f"{file.name}: {theirs}" for ours, theirs in names.items()}},
        files=files,
    )


def plan_for(published: MLLMConfig, lm: MambaConfig) -> Plan | None:
    """The published plan for an LM of the same depth; None for any other, since a plan counts layers."""
    return published.plan if lm.n_layers == published.lm.n_layers else None


def _source_names(ours: Iterable[str], found: Mapping[str, Sizes]) -> dict[str, str]:
    """Our name of each tensor of projector and LM -> the checkpoint's."""
    lm = source_names([name.removeprefix("lm.") for name in ours if name.startswith("lm.")], found)
    prefix = projector_prefix(found)
    projector = {name: prefix + name for name in ours if name.startswith("projector.")}
    return {**projector, **{f"lm.{name}": theirs for name, theirs in lm.items()}}


def _check_towers(config: MLLMConfig, found: Mapping[str, Sizes], file: Path) -> None:
    """Check that the towers have as many patches and the widths that the projector expects, else a `UserError`."""
    patches = {name: tower.n_patches for name, tower in config.towers.items()}
    if len(set(patches.values())) > 1:
        raise UserError(f"The towers have different numbers of patches ({patches}): give towers with the same number.")
    expected = found.get(projector_prefix(found) + "projector.0.weight", (0, config.vision_width))[-1]
    if expected != config.vision_width:
        widths = " + ".join(f"{name} {tower.width}" for name, tower in config.towers.items())
        raise UserError(
            f"The projector in {file} takes {expected} features, but the towers give {config.vision_width} ({widths}): "
            "give the towers with which it was trained."
        )
