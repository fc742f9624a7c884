"""Pixels and padding; and back to text."""

import numpy as np
import pytest
import torch
from PIL import Image

from deltaprune.errors import UserError
from deltaprune.mllm.network import MLLMConfig
from deltaprune.mllm.processor import Processor
from deltaprune.models.cobra import COBRA
from deltaprune.vlm import VLM


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def test_texts_are_padded_on_the_left(tiny: tuple[VLM, Processor]) -> None:
    _, processor = tiny
    inputs = processor(text=["How many?", "How many red circles are there in the picture?"])
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    assert ids.shape == mask.shape
    assert mask[0].tolist() == sorted(mask[0].tolist())
    assert mask[1].all()
    assert torch.equal(ids[0][mask[0].bool()], processor(text="How many?")["input_ids"][0])


def test_pixels_are_normalised_for_each_tower(tiny: tuple[VLM, Processor]) -> None:
    _, processor = tiny
    white = Image.new("RGB", (64, 20), "white")
    inputs = processor(images=white, text="What?")
    for name, tower in processor.config.towers.items():
        pixels = inputs[f"pixel_values_{name}"]
        assert pixels.shape == (1, 3, tower.image_size, tower.image_size)
        expected = (1 - torch.tensor(tower.mean)) / torch.tensor(tower.std)
        torch.testing.assert_close(pixels.mean((0, 2, 3)), expected)


def test_one_image_serves_every_question_and_pairs_stay_pairs(tiny: tuple[VLM, Processor]) -> None:
    _, processor = tiny
    assert processor(images=picture(0), text=["a", "b", "c"])["image_index"].tolist() == [0, 0, 0]
    assert processor(images=[picture(0), picture(1)], text=["a", "b"])["image_index"].tolist() == [0, 1]
    with pytest.raises(UserError, match="2 images for 3 questions"):
        processor(images=[picture(0), picture(1)], text=["a", "b", "c"])


def test_the_key_comes_from_the_image(tiny: tuple[VLM, Processor]) -> None:
    _, processor = tiny
    keys = processor.encode_images([picture(0), picture(1), picture(0)])["image_key"]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize("text", ["", "   ", ["What?", ""], []])
def test_an_empty_question_is_refused(tiny: tuple[VLM, Processor], text: object) -> None:
    with pytest.raises(UserError, match="empty"):
        tiny[1](text=text)  # type: ignore[arg-type]


def test_any_text_survives_the_tokenizer(tiny: tuple[VLM, Processor]) -> None:
    _, processor = tiny
    for text in ("Wie viele Kreise?", "多少个红色的圆?", "tab\tand  spaces", "🙂"):
        assert processor.decode(processor.tokenizer.encode(text).ids) == text.strip()


def test_decoding_stops_at_the_end_of_text(tiny: tuple[VLM, Processor]) -> None:
    _, processor = tiny
    ids = processor.tokenizer.encode("K7").ids
    assert processor.decode([*ids, processor.eos_id, *ids]) == "K7"


def test_a_config_survives_json() -> None:
    import json

    assert MLLMConfig.from_dict(json.loads(json.dumps(COBRA.to_dict()))) == COBRA
