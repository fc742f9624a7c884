"""What was answered, as HTML: small tables that become cards on a narrow screen."""

from collections.abc import Mapping, Sequence
from html import escape

from deltaprune.studio.result import Asked, Result

COLUMNS = ("Setting", "Answer", "Visual tokens", "MACs", "Picture", "Prompt", "Answer", "Together")
TIMES = ("From scratch", "Took", "Saved")
PARTS = ("vision", "prefill", "decode")


def answers(rows: Mapping[str, Result | str], shown: str) -> str:
    """A row for each setting: the first is unpruned, and what the others say is compared with it.

    Args:
        rows: a result, or the sentence why there is none, by the setting's name.
        shown: the name of the setting whose patches are drawn.
    """
    names = iter(rows)
    plain = rows[next(names)]
    said = plain.answer if isinstance(plain, Result) else None
    body = "".join(_row(name, row, said if i else None, name == shown) for i, (name, row) in enumerate(rows.items()))
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS[:4]) + "".join(
        f'<th scope="col">{name}<span class="unit"> ms</span></th>' for name in COLUMNS[4:]
    )
    return f'<table class="dp-table" id="dp-answers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _row(name: str, row: Result | str, unpruned: str | None, shown: bool) -> str:
    if isinstance(row, str):
        head = f'<th scope="row"><b>{escape(name)}</b></th>'
        return f'<tr class="failed">{head}<td colspan="{len(COLUMNS) - 1}">{escape(row)}</td></tr>'
    drawn = '<span class="drawn">shown below</span>' if shown else ""
    method = "" if row.method == "none" else f"<code>{_breakable(row.method)}</code>"
    verdict = ""
    if unpruned is not None:
        same = row.answer == unpruned
        verdict = f'<span class="{"same" if same else "other"}">{"same" if same else "differs"}</span>'
    cells = [
        f'<b class="said">{escape(row.answer) or "(nothing)"}</b>{verdict}',
        _tokens(row),
        f"{100 * row.macs_share:.1f} %{_bar(row.macs_share)}",
        *(_ms(row.ms[part]) for part in PARTS),
        f"<b>{_ms(row.total_ms)}</b>",
    ]
    tds = "".join(
        f'<td data-label="{label}{" ms" if i > 2 else ""}"><div>{cell}</div></td>'
        for i, (label, cell) in enumerate(zip(COLUMNS[1:], cells, strict=True))
    )
    return f'<tr{" class=shown" if shown else ""}><th scope="row"><b>{escape(name)}</b>{drawn}{method}</th>{tds}</tr>'


def _bar(share: float) -> str:
    """A share as the length of a bar."""
    return f'<span class="bar"><i style="width:{100 * min(1.0, share):.1f}%"></i></span>'


def asked(rows: Sequence[Asked]) -> str:
    """The questions about a picture, the last one first, with what the picture's prefix saved."""
    body = "".join(_asked_row(row) for row in reversed(rows))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Question", "Answer"))
    head += "".join(f'<th scope="col">{name}<span class="unit"> ms</span></th>' for name in TIMES)
    return f'<table class="dp-table" id="dp-asked"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _asked_row(row: Asked) -> str:
    took = _ms(row.took_ms) + ('<span class="note">picture run</span>' if row.first else "")
    share = f'<span class="note">{row.saved_ms / row.whole_ms:.0%}</span>'
    saved = "&ndash;" if row.first else f"<b>{_ms(row.saved_ms)}</b>{share}"
    cells = dict(zip((f"{name} ms" for name in TIMES), (_ms(row.whole_ms), took, saved), strict=True))
    tds = "".join(
        f'<td data-label="{label}"><div>{cell}</div></td>'
        for label, cell in {"Answer": escape(row.answer) or "(nothing)", **cells}.items()
    )
    method = f"<code>{_breakable(row.method)}</code>"
    return f'<tr><th scope="row"><b>{escape(row.question)}</b>{method}</th>{tds}</tr>'


def _tokens(row: Result) -> str:
    """256, then what each stage left; a few of many stages."""
    counts = [str(count) for count in row.tokens]
    if len(counts) > 4:
        counts = [*counts[:2], "&hellip;", counts[-1]]
    updated, layers = row.updated
    frozen = "" if updated == layers else f'<span class="note">updated in {updated} of {layers} layers</span>'
    return " &rarr; ".join(counts) + frozen


def _ms(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"


def _breakable(text: str) -> str:
    """A setting's text that may be broken behind its commas, colons and plus signs."""
    return "".join(escape(letter) + ("<wbr>" if letter in ",:+;" else "") for letter in text)
