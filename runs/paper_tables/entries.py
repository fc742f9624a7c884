"""The rows of the paper's Tables 1, 3, 4, 5 and of two of ours, for any model that has a plan."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from deltaprune.calibrate import budget
from deltaprune.cost import share_of
from deltaprune.errors import UserError
from deltaprune.evaluate.paper import PAPER, Printed
from deltaprune.methods import parse
from deltaprune.mllm.network import MLLMConfig

NONE = "none"
Table = Callable[[MLLMConfig, float], "list[Entry]"]
UNPRUNED = next(row for row in PAPER if row.model == "cobra" and row.method == NONE)


@dataclass(frozen=True)
class Entry:
    """A row of a table.

    Attributes:
        label: what the table calls it.
        method: what runs.
        block: rows that are compared with one another; the first of a block is DTP.
        paper: the method of the paper's Cobra row that it mirrors; "" where there is none.
    """

    label: str
    method: str
    block: str = ""
    paper: str = ""


def table1(config: MLLMConfig, text_tokens: float) -> list[Entry]:
    """Every method at the two shares of the MACs that DTP leaves at keep=.9 and .5."""
    entries = [Entry("no pruning", NONE, paper=NONE)]
    rivals = {
        "0.9": ("fastv:keep=0.7", "dart:keep=0.66", "vtw:after=45"),
        "0.5": ("fastv:keep=0.5", "dart:keep=0.44", "vtw:after=32"),
    }
    for keep, (fastv, dart, vtw) in rivals.items():
        dtp = f"dtp:keep={keep}"
        share = share_of(config, parse(dtp), text_tokens)
        block = f"{100 * share:.1f} % of the MACs"

        def at(label: str, method: str, paper: str = "", share: float = share, block: str = block) -> Entry:
            return Entry(label, budget(config, method, share, text_tokens).label, block, paper)

        entries += [
            Entry("DTP", dtp, block, dtp),
            Entry("random tokens", f"random:keep={keep}", block),
            Entry("evenly spread tokens", f"uniform:keep={keep}", block),
            at("FastV", "fastv", fastv),
            at("DART", "dart:exact_budget=true", dart),
            at("MTR", "mtr"),
            at("VTW, nearest layer", "vtw", vtw),
            at("DTP without late stage", "dtp:late=none"),
            at("random tokens without late stage", "random:late=none"),
        ]
    return entries


def table3(config: MLLMConfig, text_tokens: float) -> list[Entry]:
    """What ranks the tokens; the paper's four, and three more of the literature."""
    named = {
        "Δ_t": "delta",
        "y_t": "output",
        "B_t": "input",
        "C_t": "readout",
        "y_t, positive part": "clipped_output",
        "Δ_t, L2 norm": "delta_norm",
        "implicit attention": "hidden_attention",
    }
    entries = [Entry("no pruning", NONE, paper=NONE)]
    for keep in ("0.5", "0.9"):
        for label, score in named.items():
            method = f"dtp:keep={keep}" + ("" if score == "delta" else f",score={score}")
            mirrors = keep == "0.5" and score in ("delta", "output", "input", "readout")
            entries.append(Entry(label, method, f"keep={keep}", method if mirrors else ""))
    return entries


def table4(config: MLLMConfig, text_tokens: float) -> list[Entry]:
    """Which tokens compete."""
    asked = {
        "Top-k (visual only)": "dtp:keep=0.5",
        "Random": "dtp:keep=0.5,score=random",
        "Top-k (all tokens)": "dtp:keep=0.5,candidates=all",
    }
    return [Entry("no pruning", NONE, paper=NONE), *(Entry(k, m, "keep=0.5", m) for k, m in asked.items())]


def table5(config: MLLMConfig, text_tokens: float) -> list[Entry]:
    """With and without the late stage."""
    asked = {"complete pruning enabled": "dtp:keep=0.5", "complete pruning disabled": "dtp:keep=0.5,late=none"}
    return [Entry("no pruning", NONE, paper=NONE), *(Entry(k, m, "keep=0.5", m) for k, m in asked.items())]


FROZEN_SHARES = (0.606, 0.48, 0.33)
MAIN = {  # beside Freeze in the table that leads
    "DivPrune": "divprune",
    "uniqueness": "uniqueness",
    "DART": "dart:exact_budget=true",
    "FastV": "fastv",
    "DTP": "dtp",
    "MTR": "mtr",
    "ShortV": "shortv",
    "smaller picture": "downscale",
    "VTW, nearest layer": "vtw",
    "random tokens": "random",
}
OTHERS = {
    "MMR": "mmr",
    "SCOPE": "scope",
    "V-CoLA": "vcola",
    "Stateful": "stateful",
    "PyramidDrop": "pyramid",
    "ToMe": "tome",
    "UTRC": "utrc",
    "FitPrune": "fitprune",
    "hidden-state alignment": "alignment",
    "evenly spread tokens": "uniform",
    "DTP without late stage": "dtp:late=none",
}  # every other method here that can be asked for a share


def _against_freeze(rivals: dict[str, str], shares: Iterable[float]) -> Table:
    """Freeze against rivals at shares of the MACs; a rival that cannot go so low is left out of that block."""

    def table(config: MLLMConfig, text_tokens: float) -> list[Entry]:
        entries = [Entry("no pruning", NONE)]
        for share in shares:
            for label, method in {"Freeze": "freeze", **rivals}.items():
                try:
                    found = budget(config, method, share, text_tokens)
                except UserError:
                    continue
                entries.append(Entry(label, found.label, f"{100 * share:g} % of the MACs"))
        return entries

    return table


RANKED = {
    "Δ_t": "dtp:late=none,early={after},keep={keep:g}",
    "random": "random:late=none,early={after},keep={keep:g}",
    "uniqueness": "dtp:late=none,score=uniqueness,early={after},keep={keep:g}",
    "DART's choice": "dart:exact_budget=true,after={after},keep={keep:g}",
}  # the paper's score and three others, in one stage


def early_layers(config: MLLMConfig, text_tokens: float) -> list[Entry]:
    """Where the early stage comes, at keep=.5 and without a late stage."""
    depths = [k for k in (1, 2, 3, 4, 5, 6, 8, 10) if k < config.lm.n_layers]
    return [Entry("no pruning", NONE), *_ranked((f"after {k} layers", k, 0.5) for k in depths)]


def shares_kept(config: MLLMConfig, text_tokens: float) -> list[Entry]:
    """How much is kept after the plan's early layer, without a late stage."""
    assert config.plan is not None
    shares, after = (0.9, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05), config.plan.early
    return [Entry("no pruning", NONE), *_ranked((f"keep={keep:g}", after, keep) for keep in shares)]


def _ranked(blocks: Iterable[tuple[str, int, float]]) -> Iterator[Entry]:
    """A block of the four scores for each (block, after, keep)."""
    for block, after, keep in blocks:
        for label, method in RANKED.items():
            yield Entry(label, method.format(after=after, keep=keep), block)


TABLES: dict[str, tuple[str, Table]] = {
    "table1": ("Table 1: methods at equal cost", table1),
    "table3": ("Table 3: what ranks the tokens", table3),
    "table4": ("Table 4: which tokens compete", table4),
    "table5": ("Table 5: the late stage", table5),
    "early": ("Where the early stage comes", early_layers),
    "keep": ("How much is kept", shares_kept),
    "freeze": ("Freeze against its rivals at equal cost", _against_freeze(MAIN, FROZEN_SHARES)),
    "freeze_others": ("Freeze against the other methods", _against_freeze(OTHERS, FROZEN_SHARES)),
    "budgets": ("Freeze over budgets", _against_freeze(MAIN, (0.9, 0.75, 0.6, 0.48, 0.4, 0.33, 0.25))),
}


def paper_means(table: str) -> dict[str, float]:
    """Cobra's mean by method, as a table of the paper prints it; the ablations have three of the benchmarks."""
    if not table.startswith("table"):
        return {}
    digit = table.removeprefix("table")
    rows: list[Printed] = [row for row in PAPER if row.model == "cobra" and row.table.startswith(digit)]
    whole = [UNPRUNED.scores[name] for name in rows[0].scores]
    printed = {row.method: row.mean if row.average is None else row.average for row in rows}
    return {NONE: sum(whole) / len(whole), **printed}
