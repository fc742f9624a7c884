"""The subjects of `deltaprune analyse` that are about scores: keep, attention."""

from typing import Any

from deltaprune.cli._asked import Asked, Done, moved
from deltaprune.cli._tables import table
from deltaprune.errors import UserError

CURVE = tuple(round(0.05 * i, 2) for i in range(1, 21))


def curve_over_keep(asked: Asked) -> Done:
    """A row for each share: the divergence of the next token, and the spread of the scores that are left."""
    import numpy as np

    from deltaprune.analysis import keep_curve
    from deltaprune.methods.dtp import DTP

    asked.working.say("measuring each share")
    for option, layers in (("--early", asked.early), ("--late", asked.late)):
        if len(layers) > 1:
            raise UserError(f"{option} takes one layer here: analyse map takes several.")
    depth = asked.vlm.shape.n_layers
    late = None if asked.late == (depth,) else asked.late[0] if asked.late else "plan"
    methods = [DTP(keep, asked.early[0] if asked.early else "plan", late, asked.score) for keep in asked.keep or CURVE]
    found = keep_curve(asked.vlm, asked.inputs, methods, asked.run)
    first, last = (asked.vlm.shape.layer(k, name) for k, name in ((methods[0].early, "early"), (late, "late")))  # pyright: ignore
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


def attention_and_score(asked: Asked) -> Done:
    """A row for each layer: rank correlation of attention and score, and the attention that kept tokens hold."""
    import numpy as np

    from deltaprune.analysis import correlation

    asked.working.say("measuring implicit attention and the score")
    found = correlation(asked.vlm, asked.inputs, asked.score, asked.one_keep, asked.run)
    columns = {name: getattr(found, name) for name in ("spearman", "mass", "auc")}
    rows = []
    for l in range(len(found.spearman)):
        mean = {name: _number(np.mean(values[l])) for name, values in columns.items()}
        spread = {f"{name}_std": _number(np.std(values[l])) for name, values in columns.items()}
        rows.append(
            {
                **asked.about(found.spearman.shape[1]),
                "score": repr(asked.score),
                "keep": found.keep,
                "after": l + 1,
                **mean,
                **spread,
            }
        )
    about = (
        f"{asked.vlm.config.name}, {found.spearman.shape[1]} pictures: what the last token reads of each visual token "
        f"(implicit attention) against {asked.score!r} · spearman: rank correlation · mass: attention on the best "
        f"{100 * found.keep:g} % by that score, % · auc: how often a kept token has more attention than a dropped one "
        f"· by chance 0, {100 * found.keep:g} and 0.5; mean and standard deviation over pictures"
    )
    units = {"spearman": (1, 2), "mass": (100, 1), "auc": (1, 2)}

    def cell(row: dict[str, Any], name: str) -> str:
        if row[name] is None:
            return ""
        by, digits = units[name]
        return f"{by * row[name]:.{digits}f} ({by * row[f'{name}_std']:.{digits}f})"

    lines = [[str(row["after"]), *(cell(row, name) for name in columns)] for row in rows]
    figure = None
    if asked.drawn:
        from deltaprune.analysis.figures import correlation_curves

        title = f"Implicit attention and {asked.score!r}, {asked.vlm.config.name}\n{found.spearman.shape[1]} pictures"
        figure = correlation_curves(found.spearman, found.mass, found.keep, title)
    return Done(rows, table(about, ["layer", *columns], lines), figure)


def _spread(std: float | None, full: float) -> tuple[str, str]:
    """The spread, and its ratio to that of all tokens; empty where no token is left."""
    return ("", "") if std is None else (f"{std:.3g}", f"{std / full:.2f}")


def _number(value: Any) -> float | None:
    """A number for JSON: None in place of NaN."""
    return None if value != value else float(value)
