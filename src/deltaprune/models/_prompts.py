"""The prompt's template belongs to the model; the message inside it belongs to the benchmark."""

from collections.abc import Callable


def zephyr(message: str) -> str:
    """Cobra's single turn (cobra/models/backbones/llm/prompting, after the fix of May 2024: trailing newline kept)."""
    return f"<|user|>\n{message.replace('<image>', '').strip()}<|endoftext|>\n<|assistant|>\n"


def robomamba(message: str) -> str:
    """RoboMamba's evaluation prompt; "<image>" is plain text there."""
    return f"<image>Question:{message} Answer:"


TEMPLATES: dict[str, Callable[[str], str]] = {"zephyr": zephyr, "robomamba": robomamba}
