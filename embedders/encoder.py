"""A loaded SentenceTransformer run by token budget: sorted by length, hardly any padding, pooled in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vss.errors import Code, VssError
from vss.protocols import TokenVectors
from vss.types import Role, Vectors
from vss.vectors import normalised

Tokens = dict[str, list[list[int]]]
"""Model input name (`input_ids`, ...) -> for each text its values; all inputs of a text are equally long."""

_BUDGET = {"cpu": 1024, "cuda": 65_536}
"""Tokens of one forward pass. On a CPU small batches stay in its cache; `vss bench embed` measures it."""

_POOLED_MODULES = {"Pooling", "Normalize", "Dense", "LayerNorm", "Dropout"}
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_ENCODE_BATCH = 32


class Encoder:
    """Texts through one loaded model.

    direct: True where the model is a plain transformer followed by known modules: it is then run by us, the
    transformer in its own precision and everything after it in float32. Otherwise `model.encode` does it.
    """

    def __init__(self, model: Any, max_tokens: int) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.direct = _is_plain(model)
        self._device = str(model.device)
        self._budget = _BUDGET["cpu" if self._device == "cpu" else "cuda"]

    def lengths(self, texts: Sequence[str], role: Role) -> list[int]:
        """Tokens of each text with its prompt and special tokens, after truncation."""
        return [len(ids) for ids in self._tokenise(texts, role)["input_ids"]] if texts else []

    def sentences(self, texts: Sequence[str], role: Role) -> Vectors:
        """`(len(texts), dim)` float32, as the model's last module gives it."""
        if not self.direct:
            return self._encode(texts, role)
        rows: list[Vectors] = [np.empty(0, dtype=np.float32)] * len(texts)
        for places, features in self._forward(self._tokenise(texts, role)):
            vectors = features["sentence_embedding"].float().cpu().numpy()
            for place, vector in zip(places, vectors, strict=True):
                rows[place] = vector
        return np.stack(rows)

    def tokens(self, texts: Sequence[str], role: Role) -> list[TokenVectors]:
        """The tokens and the sentence of each text, of unit length; special tokens only where a text has no other.

        Raises VssError (UNSUPPORTED) for a model that is not run directly.
        """
        if not self.direct:
            raise VssError(Code.UNSUPPORTED, "this model gives no vector for each token", hint="use another model")
        tokens = self._tokenise(texts, role, special=True)
        special = tokens.pop("special_tokens_mask")
        out: dict[int, TokenVectors] = {}
        for places, features in self._forward(tokens):
            tokens_of = features["token_embeddings"].float().cpu().numpy()
            sentences = features["sentence_embedding"].float().cpu().numpy()
            shown = features["attention_mask"].cpu().numpy().astype(bool)
            for row, place in enumerate(places):
                vectors = tokens_of[row, shown[row]]
                own = np.asarray(special[place]) == 0
                out[place] = TokenVectors(
                    normalised(vectors[own] if own.any() else vectors), normalised(sentences[row : row + 1])[0]
                )
        return [out[place] for place in range(len(texts))]

    def _encode(self, texts: Sequence[str], role: Role) -> Vectors:
        encode = self.model.encode_query if role is Role.QUERY else self.model.encode_document
        made = encode(list(texts), batch_size=_ENCODE_BATCH, show_progress_bar=False, convert_to_tensor=True)
        vectors: Vectors = made.float().cpu().numpy()
        return vectors

    def prompt(self, role: Role) -> str:
        """What the model's configuration puts before a text of this role, as `encode_query` and `_document` do."""
        prompts = self.model.prompts
        names = ("query",) if role is Role.QUERY else _DOCUMENT_PROMPTS
        for name in (*names, self.model.default_prompt_name):
            if name in prompts:
                return str(prompts[name] or "")
        return ""

    def _tokenise(self, texts: Sequence[str], role: Role, *, special: bool = False) -> Tokens:
        prompt = self.prompt(role)
        encoded = self.model.tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=self.max_tokens,
            padding=False,
            return_attention_mask=True,
            return_special_tokens_mask=special,
        )
        return dict(encoded)

    def _forward(self, tokens: Tokens) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """The model's output for batches of texts, each with the places of its texts in the input."""
        tokenizer = self.model.tokenizer
        fill = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
        left = tokenizer.padding_side == "left"
        with torch.inference_mode():
            for places in by_budget([len(ids) for ids in tokens["input_ids"]], self._budget):
                features: dict[str, Any] = {
                    name: torch.from_numpy(_pad([values[place] for place in places], fill.get(name, 0), left)).to(
                        self._device
                    )
                    for name, values in tokens.items()
                }
                features = self.model[0](features)
                features["token_embeddings"] = features["token_embeddings"].float()
                for module in list(self.model)[1:]:
                    features = module(features)
                yield places, features


def by_budget(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places grouped by rising length, so that each group padded to its longest has at most `budget` tokens.

    A place longer than the budget is a group of its own.
    """
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[place] > budget:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _pad(rows: Sequence[Sequence[int]], value: int, left: bool) -> NDArray[np.int64]:
    width = max(map(len, rows))
    out = np.full((len(rows), width), value, dtype=np.int64)
    for row, values in zip(out, rows, strict=True):
        row[slice(width - len(values), None) if left else slice(len(values))] = values
    return out


def _is_plain(model: Any) -> bool:
    """Whether running the modules one by one on tokenised text is all that `model.encode` does."""
    first, *rest = list(model)
    names = [type(module).__name__ for module in rest]
    return (
        type(first).__name__ == "Transformer"
        and not getattr(first, "do_lower_case", False)
        and getattr(first, "query_expansion", None) is None
        and getattr(first, "query_length", None) is None
        and getattr(first, "document_length", None) is None
        and not getattr(first, "can_flatten_inputs", False)
        and names.count("Pooling") == 1
        and set(names) <= _POOLED_MODULES
        and all(getattr(module, "include_prompt", True) for module in rest)
        and model.truncate_dim is None
        and getattr(model.tokenizer, "is_fast", False)
    )
