"""The subjects of `deltaprune analyse` that are about scores: keep, attention."""

from typing import TYPE_CHECKING, Any

from deltaprune.cli._asked import Asked, Done, moved
from deltaprune.cli._tables import table
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.methods.dtp import DTP

CURVE = tuple(round(0.05 * i, 2) for i in range(1, 21))


def curve_over_keep(asked: Asked) -> Done:
    """A row for each share: the divergence of the next token, and the spread of the scores that are left."""
    import numpy as np

    from deltaprune.analysis import keep_curve

    asked.working.say("measuring each share")
    depth = asked.vlm.shape.n_layers
    methods = _methods(asked)
    found = keep_curve(asked.vlm, asked.inputs, methods, asked.run)
    first, last = (asked.vlm.shape.layer(getattr(methods[0], name), name) for name in ("early", "late"))
    between = slice(first, last)
    spread = [float(np.mean(line[between])) for line in found.std]
    full = float(np.mean(found.full[between]))
    rows = [
        {
            **asked.about(found.samples),
            "early": first,
            "late": last,
            "keep": keep,
            "js": js,
            "same": same,
            "std": _number(std),
            "std_unpruned": full,
            "std_by_layer": [_number(value) for value in line],
            "macs_share": asked.macs(method),
        }
        for method, keep, js, same, std, line in zip(
            methods, found.keep, found.js.tolist(), found.same.tolist(), spread, found.std, strict=True
        )
    ]
    where = f"layers {first + 1} to {depth if last is None else last}"  # pyright: ignore
    about = (
        f"{asked.vlm.config.name}: dtp:early={first},late={'none' if last is None else last}, {found.samples} pictures "
        "· JS: of the next token against the unpruned model, nats · same: the likeliest next token is unchanged, % · "
        f"std: of the scores of the tokens left (eq. 7), mean of {where}, beside that of all tokens · "
        "MACs: share of the LM prefill's without pruning"
    )
    lines = [[f"{row['keep']:g}", *_spread(row["std"], full), *moved(row)] for row in rows]
    figure = None
    if asked.drawn:
        from deltaprune.analysis.figures import keep_curves

        title = f"Keeping less, {asked.vlm.config.name}\n{found.samples} pictures, scores of {where}"
        figure = keep_curves(found.keep, found.js, spread, full, title)
    return Done(rows, table(about, ["keep", "std", "of all", "JS", "same", "MACs"], lines), figure)


def _methods(asked: Asked) -> "list[DTP]":
    """DTP with each share; one value of `early` and of `late`, the plan's where none is given."""
    from deltaprune.methods.dtp import DTP

    for option, layers in (("--early", asked.early), ("--late", asked.late)):
        if len(layers) > 1:
            raise UserError(f"{option} takes one layer here: analyse map takes several.")
    early = asked.early[0] if asked.early else "plan"
    late = None if asked.late == (asked.vlm.shape.n_layers,) else asked.late[0] if asked.late else "plan"
    return [DTP(keep, early, late, asked.score) for keep in asked.keep or CURVE]


def attention_and_score(asked: Asked) -> Done:
    """A row for each layer: rank correlation of attention and score, and the attention that kept tokens hold."""
    import numpy as np

    from deltaprune.analysis import correlation

    asked.working.say("measuring implicit attention and the score")
    found = correlation(asked.vlm, asked.inputs, asked.score, asked.one_keep, asked.run)
    columns = {name: getattr(found, name) for name in ("spearman", "mass", "auc")}
    rows = []
    for l in range(len(found.spearman)):
        about = {**asked.about(found.spearman.shape[1]), "score": repr(asked.score), "keep": found.keep, "after": l + 1}
        mean = {name: _number(np.mean(values[l])) for name, values in columns.items()}
        spread = {f"{name}_std": _number(np.std(values[l])) for name, values in columns.items()}
        rows.append({**about, **mean, **spread})
    about = (
        f"{asked.vlm.config.name}, {found.spearman.shape[1]} pictures: what the last token reads of each visual token "
        f"(implicit attention) against {asked.score!r} · spearman: rank correlation · mass: attention on the best "
        f"{100 * found.keep:g} % by that score, % · auc: how often a kept token has more attention than a dropped one "
        f"· by chance 0, {100 * found.keep:g} and 0.5; mean and standard deviation over pictures"
    )
    lines = [[str(row["after"]), *(_mean_and_std(row, name) for name in columns)] for row in rows]
    figure = None
    if asked.drawn:
        from deltaprune.analysis.figures import correlation_curves

        title = f"Implicit attention and {asked.score!r}, {asked.vlm.config.name}\n{found.spearman.shape[1]} pictures"
        figure = correlation_curves(found.spearman, found.mass, found.keep, title)
    return Done(rows, table(about, ["layer", *columns], lines), figure)


def _spread(std: float | None, full: float) -> tuple[str, str]:
    """The spread, and its ratio to that of all tokens; empty where no token is left."""
    return ("", "") if std is None else (f"{std:.3g}", f"{std / full:.2f}")


def _mean_and_std(row: dict[str, Any], name: str) -> str:
    """A measure's mean and, in brackets, its standard deviation; empty where there is none."""
    if row[name] is None:
        return ""
    by, digits = (100, 1) if name == "mass" else (1, 2)
    return f"{by * row[name]:.{digits}f} ({by * row[f'{name}_std']:.{digits}f})"


def _number(value: Any) -> float | None:
    """A number for JSON: None in place of NaN."""
    return None if value != value else float(value)
