"""ALOE as SlotFormer and C-JEPA run it, and their loader: nn.TransformerEncoder over full-length sequences, one item a question.

What they do is kept, also where it costs: an item copies its question's record twice, a batch holds the slots of
multiple-choice questions once and repeats their tokens for every choice.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tests.models.aloe.literal_aloe import LiteralTensors

DESCRIPTIVE, PREDICTIVE = 0, 2
QUESTION, CHOICE = 20, 12
FRAMES, STRIDE, GIVEN = 25, 5, 128
Batch = dict[str, Tensor]


class PublishedAloe(nn.Module):
    """The tensors of the literal version; `forward` is batched."""

    def __init__(self, layers: int, heads: int, width: int, ffn: int, dropout: float, visual_tokens: int) -> None:
        super().__init__()
        self.transformer_model = m = LiteralTensors(layers, heads, width, ffn, dropout, visual_tokens)
        layer = nn.TransformerEncoderLayer(width, heads, ffn, dropout, "relu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.encoder.layers = m.transformer_encoder.layers

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Answer logits (B1,22) of the descriptive questions, option logits (B2,) of the choices."""
        m = self.transformer_model
        count = len(batch["cls_text"])
        vision = torch.cat([self._vision(batch["cls_slots"]), self._vision(batch["mc_slots"])[batch["mc_flag"]]])
        text = torch.cat([batch["cls_text"], batch["mc_text"]])
        second = torch.zeros(text.shape, dtype=torch.bool, device=text.device)
        second[:count] = True
        second[:, QUESTION:] = True
        ids = torch.where(second[..., None], m.mc_choice_token, m.mc_question_token)
        words = torch.cat([m.q_embedding(text), ids, m.text_token.expand(*text.shape, 2)], -1)
        tokens = torch.cat([m.CLS.expand(len(text), -1, -1), vision, m.q_in_proj(words)], 1)
        padding = torch.cat([batch["cls_pad"], batch["mc_pad"]])
        padding = torch.cat([padding.new_zeros(len(text), 1 + vision.shape[1]), padding], 1)
        cls = self.encoder(tokens + m.transformer_encoder.pos_embedding, src_key_padding_mask=padding)[:, 0]
        return m.cls_answer_mlp(cls[:count]), m.mc_answer_mlp(cls[count:])[:, 0]

    def _vision(self, slots: Tensor) -> Tensor:
        m = self.transformer_model
        slots = slots.flatten(1, 2)
        return m.vision_in_proj(torch.cat([slots, m.vision_token.expand(*slots.shape[:2], 2)], -1))


def loss_of(model: PublishedAloe, batch: Batch) -> Tensor:
    answers, options = model(batch)
    loss = F.cross_entropy(answers, batch["cls_label"])
    return loss + F.binary_cross_entropy_with_logits(options, batch["mc_label"].float())


class Questions(Dataset):
    """One question an item, from a list of records and a table of videos' slots, all in memory."""

    def __init__(self, records: list[dict[str, Any]], slots: dict[str, np.ndarray]) -> None:
        self.records, self.slots = records, slots

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        number, start = item
        question = copy.deepcopy(self.records[number])
        out = {name: question[name] for name in ("scene_index", "question_id", "category", "tokens", "pad")}
        if question["category"] == DESCRIPTIVE:
            out["label"] = question["label"]
        else:
            out["tokens"] = np.stack([np.concatenate([out["tokens"], c]) for c in question["choice_tokens"]])
            out["pad"] = np.stack([np.concatenate([out["pad"], c]) for c in question["choice_pad"]])
            out["label"] = np.stack(question["choice_label"]).astype(np.int32)
            out["flag"] = np.zeros_like(out["label"])
            out["choice_id"] = np.stack(question["choice_id"])
        out["slots"] = self._slots(number, start)
        return out

    def _slots(self, number: int, start: int) -> Tensor:
        question = copy.deepcopy(self.records[number])
        video = self.slots[question["video_filename"]]
        if question["category"] == PREDICTIVE:
            start += len(video) - GIVEN
        return torch.from_numpy(video[np.array([start + STRIDE * n for n in range(FRAMES)])])


def records_of(scenes: list[dict[str, Any]], words: dict[str, int], answers: dict[str, int]) -> list[dict[str, Any]]:
    """The records of a question file, in its order."""
    out = []
    kinds = ("descriptive", "explanatory", "predictive", "counterfactual")
    for scene in scenes:
        for question in scene["questions"]:
            record = {
                "scene_index": scene["scene_index"],
                "video_filename": scene["video_filename"],
                "question_id": question["question_id"],
                "question": question["question"],
                "category": kinds.index(question["question_type"]),
            }
            if "choices" not in question:
                record["tokens"], record["pad"] = _tokens(question["question"], words, QUESTION + CHOICE)
                record["answer"], record["label"] = question["answer"], answers[question["answer"]]
            else:
                record["tokens"], record["pad"] = _tokens(question["question"], words, QUESTION)
                texts = [_tokens(choice["choice"], words, CHOICE) for choice in question["choices"]]
                record["choice_tokens"], record["choice_pad"] = (list(part) for part in zip(*texts, strict=True))
                record["choices"] = [choice["choice"] for choice in question["choices"]]
                record["choice_id"] = [choice["choice_id"] for choice in question["choices"]]
                record["answers"] = [choice["answer"] for choice in question["choices"]]
                record["choice_label"] = [choice["answer"] == "correct" for choice in question["choices"]]
            out.append(record)
    return out


def _tokens(text: str, words: dict[str, int], length: int) -> tuple[np.ndarray, np.ndarray]:
    found = [words[word] for word in text.lower().replace("?", "").split(" ") if word]
    pad = np.ones(length, bool)
    pad[: len(found)] = False
    return np.array(found + [0] * (length - len(found)), np.int32), pad


def collate(items: list[dict[str, Any]]) -> Batch:
    cls = [item for item in items if item["category"] == DESCRIPTIVE]
    mc = [item for item in items if item["category"] != DESCRIPTIVE]
    arrays = {
        "scene_index": np.stack([item["scene_index"] for item in items]),
        "question_id": np.stack([item["question_id"] for item in items]),
        "cls_text": np.stack([item["tokens"] for item in cls]),
        "cls_pad": np.stack([item["pad"] for item in cls]),
        "cls_label": np.stack([item["label"] for item in cls]),
        "mc_category": np.stack([item["category"] for item in mc]),
        "mc_text": np.concatenate([item["tokens"] for item in mc]),
        "mc_pad": np.concatenate([item["pad"] for item in mc]),
        "mc_label": np.concatenate([item["label"] for item in mc]),
        "mc_flag": np.concatenate([item["flag"] + i for i, item in enumerate(mc)]),
        "mc_choice_id": np.concatenate([item["choice_id"] for item in mc]),
    }
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    batch["cls_slots"] = torch.stack([item["slots"] for item in cls])
    batch["mc_slots"] = torch.stack([item["slots"] for item in mc])
    return batch


def load(questions: Questions, batches: list[list[tuple[int, int]]]) -> Iterator[Batch]:
    """The batches, each a list of (question, first frame), by torch's DataLoader in this process."""
    return iter(DataLoader(questions, batch_sampler=batches, collate_fn=collate))  # type: ignore[arg-type]
