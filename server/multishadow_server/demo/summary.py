"""Summaries: the two weightiest sentences of a text, for the documentation strings of Python's own standard library.

A sentence's weight is its TF-IDF cosine to the whole text's centroid (Radev et al. 2004, "Centroid-based summarization
of multiple documents"); the versions differ in how terms are weighted.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from multishadow.v1 import prediction_pb2 as prediction
from multishadow_server.demo.model import DemoModel, TrainedVersion

SENTENCES = 2
SHORTEST_TEXT = 4  # sentences
SHORTEST_SENTENCE = 4  # words
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_END_OF_PARAGRAPH = re.compile(r"\n\s*\n")

# Name: description, settings of the weighting; None takes the first sentences as they come.
_VERSIONS: dict[str, tuple[str, dict[str, object] | None]] = {
    "base": ("TF-IDF centroid", {}),
    "A": ("TF-IDF centroid, sublinear term frequency", {"sublinear_tf": True}),
    "B": ("TF-IDF centroid, blind to common words", {"stop_words": "english"}),
    "C": ("the first two sentences", None),
}


@cache
def training_texts() -> Sequence[str]:
    """Texts of about a quarter of the modules, told apart by a checksum of their names."""
    return _texts(path for path in _modules() if _is_for_training(path))


@cache
def held_out_texts() -> Sequence[str]:
    """Texts of the other modules; none that stands in a training module, too."""
    training = set(training_texts())
    others = _texts(path for path in _modules() if not _is_for_training(path))
    return [text for text in others if text not in training]


def sentences(text: str) -> list[str]:
    """Its sentences, each on one line; fragments of fewer than four words are left out."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in _END_OF_PARAGRAPH.split(text))
    found = (sentence for paragraph in paragraphs for sentence in _END_OF_SENTENCE.split(paragraph))
    return [sentence for sentence in found if len(sentence.split()) >= SHORTEST_SENTENCE]


def train(version: str) -> TrainedVersion:
    """Train one version by name."""
    _, weighting = _VERSIONS[version]
    choose = _first if weighting is None else _weightiest(TfidfVectorizer(**weighting).fit(training_texts()))

    def answer(request: prediction.PredictRequest) -> prediction.PredictResponse:
        found = sentences(request.text)
        if not found:
            raise ValueError("summary takes a text with at least one sentence of four words")
        chosen = sorted(choose(found))
        return prediction.PredictResponse(text=" ".join(found[number] for number in chosen))

    return TrainedVersion(quality="", answer=answer)


def samples() -> Sequence[prediction.PredictRequest]:
    """One request for each held-out text."""
    return [_request(number, text) for number, text in enumerate(held_out_texts())]


def _request(number: int, text: str) -> prediction.PredictRequest:
    request = prediction.PredictRequest(model="summary", session_id=f"reader-{number}", text=text)
    request.attributes.update({"length": "long" if len(text) > 1000 else "short"})
    return request


def _first(found: Sequence[str]) -> Sequence[int]:
    return range(min(SENTENCES, len(found)))


def _weightiest(vectorizer: TfidfVectorizer) -> Callable[[Sequence[str]], Sequence[int]]:
    def choose(found: Sequence[str]) -> Sequence[int]:
        terms = vectorizer.transform(found)
        weights = terms @ np.asarray(terms.mean(axis=0)).ravel()
        return [int(number) for number in np.argsort(-weights, kind="stable")[:SENTENCES]]

    return choose


def _modules() -> Sequence[Path]:
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def _is_for_training(module: Path) -> bool:
    return zlib.crc32(module.name.encode()) % 4 == 0


def _texts(modules: Iterable[Path]) -> Sequence[str]:
    """The modules' documentation strings that are long enough, each once. They are read, not imported."""
    found = (text for module in modules for text in _docstrings_in(ast.parse(module.read_bytes())))
    return list(dict.fromkeys(text for text in found if len(sentences(text)) >= SHORTEST_TEXT))


def _docstrings_in(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Its own, then those of what it defines; not `ast.walk`, which visits every expression, too."""
    yield ast.get_docstring(node) or ""
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings_in(inner)


MODEL = DemoModel(
    name="summary",
    title="summarises documentation",
    versions={name: description for name, (description, _) in _VERSIONS.items()},
    train=train,
    samples=samples,
)
