"""Numbers and the frame of an SVG drawing."""


def n(value: float) -> str:
    """A length with as few digits as are seen."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def svg(width: float, height: float, body: str) -> str:
    """A drawing that takes the width of its place; texts beside it say what it shows."""
    return (
        f'<svg viewBox="0 0 {n(width)} {n(height)}" xmlns="http://www.w3.org/2000/svg" aria-hidden="true" '
        f'focusable="false" fill="none">{body}</svg>'
    )
