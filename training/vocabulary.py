"""The bundled model's tokenizer: byte-level BPE over the words of `scenes`, so that any text can be encoded."""

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

EOS = "<|endoftext|>"
TURNS = ("<|user|>\n", "\n<|assistant|>\n")  # the zephyr template costs three tokens instead of a dozen


def train_tokenizer(corpus: Iterable[str], vocab_size: int = 512) -> Tokenizer:
    """A tokenizer whose digits stand alone, so that the text on a sign is read character by character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(turn, normalized=False) for turn in TURNS])
    return tokenizer
