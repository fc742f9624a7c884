"""The hub datasets: the same samples as from the files, from rows with the columns that lmms-eval uses."""

import builtins
import importlib
import re
import sys
from dataclasses import replace
from types import ModuleType

import pytest
from benchmark_files import NAMES, opened, save_pictures, vsr_rows, written
from benchmark_hub import install_hub

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._hub import HubPicture
from deltaprune.errors import UserError


@pytest.fixture
def vsr_images(tmp_path):
    """VSR's dataset holds no pictures; the others take no folder of them."""
    save_pictures(tmp_path / "pictures", sorted({row["image"] for row in vsr_rows()}))
    return lambda name: {"images": tmp_path / "pictures"} if name == "vsr" else {}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_samples_as_from_the_files(name, tmp_path, monkeypatch, vsr_images):
    files = written(name, tmp_path / "data")
    hub = opened(name, tmp_path, data=None, hub=install_hub(monkeypatch, name), **vsr_images(name))
    wanted = {sample.id: sample for sample in files.samples(files.split)}
    found = {sample.id: sample for sample in hub.samples(hub.split)}
    assert found.keys() == wanted.keys()
    for id, sample in found.items():
        picture = id if name == "okvqa" else wanted[id].image_id  # OK-VQA's rows do not name their picture
        assert sample == replace(wanted[id], image_id=picture, confidences=())  # nor do VizWiz's say how sure
        seen, there = sample.image.getpixel((3, 3)), wanted[id].image.getpixel((3, 3))
        assert max(abs(a - b) for a, b in zip(seen, there, strict=True)) < 8


@pytest.mark.parametrize(("name", "hub"), [(name, hub) for name in NAMES for hub in registry[name].hub_ids])
def test_both_names_of_a_dataset(name, hub, tmp_path, monkeypatch, vsr_images):
    first = install_hub(monkeypatch, name)
    samples = [
        list(registry[name](hub=each, **vsr_images(name)).samples(registry[name].split, limit=9))
        for each in (first, hub)
    ]
    assert samples[0] == samples[1] != []


@pytest.mark.parametrize("name", NAMES)
def test_questions_are_counted(name, tmp_path, monkeypatch, vsr_images):
    hub = opened(name, tmp_path, data=None, hub=install_hub(monkeypatch, name), allow_partial=False, **vsr_images(name))
    questions, pictures = hub.counts[hub.split]
    with pytest.raises(UserError, match=f"has {questions:,} questions .*{hub.hub!r} has"):
        hub.samples(hub.split)
    monkeypatch.setattr(type(hub), "counts", {hub.split: (18 if name == "pope" else 6, pictures)})
    assert list(hub.samples(hub.split))  # the number of pictures is not held against a hub dataset


def test_pope_one_split_of_the_hub_dataset(tmp_path, monkeypatch):
    hub = opened("pope", tmp_path, data=None, hub=install_hub(monkeypatch, "pope"))
    assert [sample.skill for sample in hub.samples("popular")] == ["popular"] * 6


def test_textvqa_without_ocr_tokens(tmp_path, monkeypatch):
    hub = opened("textvqa", tmp_path, data=None, hub=install_hub(monkeypatch, "textvqa"), ocr=False)
    assert {sample.context for sample in hub.samples("val")} == {()}


def test_vsr_needs_a_folder_of_pictures(tmp_path, monkeypatch):
    hub = opened("vsr", tmp_path, data=None, hub=install_hub(monkeypatch, "vsr"))
    with pytest.raises(UserError, match=r"holds no pictures: give images=DIR, the folder unpacked from vsr_images.zip"):
        list(hub.samples("test"))


def test_a_folder_of_pictures_has_no_use_beside_rows_that_hold_them():
    with pytest.raises(UserError, match=r"The rows of 'lmms-lab/GQA' hold their pictures: leave out images='x'."):
        registry["gqa"](hub="lmms-lab/GQA", images="x")


@pytest.mark.parametrize("name", NAMES)
def test_without_the_library(name, monkeypatch, vsr_images):
    monkeypatch.setitem(sys.modules, "datasets", None)  # what an import of something not installed meets
    hub = registry[name](hub=registry[name].hub_ids[0], **vsr_images(name))
    with pytest.raises(
        UserError, match=r"needs the datasets library: pip install datasets, or give data=DIR"
    ) as caught:
        list(hub.samples(hub.split))
    assert "\n" not in str(caught.value)


def test_the_library_is_not_imported_for_files(tmp_path, monkeypatch):
    real = builtins.__import__

    def refused(name: str, *rest):
        assert name.split(".")[0] not in ("datasets", "huggingface_hub"), name
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refused)
    monkeypatch.setattr(importlib, "import_module", lambda name, *_: refused(name))
    for name in NAMES:
        benchmark = written(name, tmp_path / name)
        assert list(benchmark.samples(benchmark.split))


def test_no_such_dataset_and_no_network(tmp_path, monkeypatch):
    install_hub(monkeypatch, "gqa")
    hub = registry["gqa"](hub="lmms-lab/GQQA")
    said = r"The hub dataset 'lmms-lab/GQQA' .*could not be read \(FileNotFoundError: .*doesn't exist on the Hub\)"
    with pytest.raises(UserError, match=said):
        list(hub.samples(hub.split))

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach\nthe Hub")

    library = ModuleType("datasets")
    library.load_dataset = offline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    with pytest.raises(UserError, match=r"ConnectionError: Couldn't reach the Hub\): check its id and the network"):
        list(hub.samples(hub.split))


def test_a_row_that_lacks_a_column(tmp_path, monkeypatch):
    install_hub(monkeypatch, "vizwiz")
    table = sys.modules["datasets"].load_dataset("lmms-lab/VizWiz-VQA", split="val")
    del table.rows[2]["category"]
    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", lambda *_, **__: table)
    hub = opened("vizwiz", tmp_path, data=None, hub="lmms-lab/VizWiz-VQA")
    with pytest.raises(UserError, match="lmms-lab/VizWiz-VQA, row 2, has no 'category'"):
        list(hub.samples("val"))


def test_gqa_without_a_picture_that_is_asked_about(tmp_path, monkeypatch):
    hub = opened("gqa", tmp_path, data=None, hub=install_hub(monkeypatch, "gqa"))
    load = sys.modules["datasets"].load_dataset

    def fewer(path, config=None, **rest):
        table = load(path, config, **rest)
        table.rows = [row for row in table.rows if row["id"] != "n25"]
        return table

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", fewer)
    with pytest.raises(UserError, match="'lmms-lab/GQA' has no picture 'n25', about which row 1 asks"):
        list(hub.samples(hub.split))


@pytest.mark.parametrize("held", [None, "a path", b"raw"])
def test_a_row_without_a_picture(held):
    with pytest.raises(UserError, match=re.escape("The picture of row 0 of 'some/data' cannot be read (TypeError: a ")):
        HubPicture([{"image": held}], 0, "some/data")()


def test_a_row_whose_picture_does_not_decode():
    class Broken:
        def __getitem__(self, index: int) -> dict:
            raise OSError("cannot identify image file")

    with pytest.raises(UserError, match="The picture of row 7 of 'some/data' cannot be read"):
        HubPicture(Broken(), 7, "some/data")()
