"""The fixtures of `benchmark_files` as hub datasets, and a stand-in for the `datasets` library that serves them."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from benchmark_files import (
    OCR,
    ORDER,
    PICTURES,
    SAID,
    gqa_entries,
    picture,
    pope_rows,
    textvqa_questions,
    vizwiz_rows,
    vqa_annotations,
    vqa_questions,
    vsr_rows,
)

from deltaprune.benchmarks import registry


class HubRows:
    """Rows as a `datasets.Dataset` hands them out; walking over rows with pictures is refused, it would decode them."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows
        self.column_names = list(rows[0])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        assert "image" not in self.column_names or isinstance(self.rows[0]["image"], str), "decodes every picture"
        return iter(self.rows)

    def remove_columns(self, name: str) -> "HubRows":
        return HubRows([{key: value for key, value in row.items() if key != name} for row in self.rows])


def hub_tables() -> dict[tuple[str, str | None, str], list[dict[str, Any]]]:
    """(benchmark, configuration, split) -> rows with the columns of the hub datasets."""
    images = [picture(index) for index in ORDER]
    vqa = [{**q, **a, "image": i} for q, a, i in zip(vqa_questions(), vqa_annotations(), images, strict=True)]
    okvqa = [
        {key: row[key] for key in ("question_id", "question", "question_type", "answer_type", "image")}
        | {"question_id": str(row["question_id"]), "answers": said}
        for row, said in zip(vqa, SAID, strict=True)
    ]
    pope = [
        {
            "id": str(place),
            "question_id": str(row["question_id"]),
            "question": row["text"],
            "answer": row["label"],
            "image_source": row["image"].removesuffix(".jpg"),
            "image": image,
            "category": split,
        }
        for split in ("adversarial", "popular", "random")
        for place, (row, image) in enumerate(zip(pope_rows(), images, strict=True))
    ]
    vizwiz = [
        {
            "question_id": row["image"].removesuffix(".jpg"),
            "image": image,
            "question": row["question"],
            "answers": [said["answer"] for said in row["answers"]],
            "category": row["answer_type"],
        }
        for row, image in zip(vizwiz_rows(), images, strict=True)
    ]
    textvqa = zip(textvqa_questions(), OCR, images, strict=True)
    return {
        ("gqa", "testdev_balanced_instructions", "testdev"): [{"id": k, **row} for k, row in gqa_entries().items()],
        ("gqa", "testdev_balanced_images", "testdev"): [
            {"id": f"n{PICTURES[index]}", "image": picture(index)} for index in (2, 0, 1)
        ],
        ("vqav2", None, "validation"): vqa,
        ("okvqa", None, "val2014"): okvqa,
        ("textvqa", None, "validation"): [{**q, "ocr_tokens": ocr, "image": i} for q, ocr, i in textvqa],
        ("pope", None, "test"): pope,
        ("vizwiz", None, "val"): vizwiz,
        ("vsr", None, "test"): vsr_rows(),
    }


def install_hub(monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """A stand-in for the `datasets` library that knows one benchmark's hub dataset by all its ids; gives the first."""
    known = registry[name].hub_ids
    tables = hub_tables()

    def load_dataset(path: str, config: str | None = None, *, split: str, data_files: Any = None) -> HubRows:
        if path not in known:
            raise FileNotFoundError(f"Dataset {path!r} doesn't exist on the Hub")
        assert data_files == ({"test": "test.jsonl"} if name == "vsr" else None)
        return HubRows(tables[name, config, split])

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    return known[0]
