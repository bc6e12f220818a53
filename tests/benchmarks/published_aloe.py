"""ALOE as SlotFormer and C-JEPA run it, and their loader: nn.TransformerEncoder over full-length sequences, one item a question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from ctt.data.question_table import QuestionTable
from tests.models.literal_aloe import LiteralTensors

DESCRIPTIVE, PREDICTIVE = 0, 2


class PublishedAloe(nn.Module):
    """The tensors of the literal version; `forward` is batched."""

    def __init__(self, layers: int, heads: int, width: int, ffn: int, dropout: float, visual_tokens: int) -> None:
        super().__init__()
        self.transformer_model = m = LiteralTensors(layers, heads, width, ffn, dropout, visual_tokens)
        layer = nn.TransformerEncoderLayer(width, heads, ffn, dropout, "relu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.encoder.layers = m.transformer_encoder.layers

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """slots (Q,T,N,D); text (B,32), owner (B,), descriptive (B,) of the sequences → answers (B,22), options (B,)."""
        m = self.transformer_model
        vision = batch["slots"].flatten(1, 2)
        vision = m.vision_in_proj(torch.cat([vision, m.vision_token.expand(*vision.shape[:2], 2)], -1))
        vision = vision[batch["owner"]]
        text, b = batch["text"], len(batch["text"])
        words = m.q_embedding(text)
        second = batch["descriptive"][:, None] | (torch.arange(32) >= 20)
        ids = torch.where(second[..., None], m.mc_choice_token, m.mc_question_token)
        words = m.q_in_proj(torch.cat([words, ids, m.text_token.expand(b, 32, 2)], -1))
        tokens = torch.cat([m.CLS.expand(b, -1, -1), vision, words], 1) + m.transformer_encoder.pos_embedding
        padding = torch.cat([torch.zeros(b, tokens.shape[1] - 32, dtype=torch.bool), text == 0], 1)
        cls = self.encoder(tokens, src_key_padding_mask=padding)[:, 0]
        return m.cls_answer_mlp(cls), m.mc_answer_mlp(cls)[:, 0]


def loss_of(model: PublishedAloe, batch: dict[str, Tensor]) -> Tensor:
    answers, options = model(batch)
    descriptive, truth = batch["descriptive"], batch["answer"]
    loss = F.cross_entropy(answers[descriptive], truth[descriptive])
    return loss + F.binary_cross_entropy_with_logits(options[~descriptive], truth[~descriptive].float())


class Questions(Dataset):
    """One question an item: its sampled slots, the words of its sequences, their answers. All arrays in memory."""

    def __init__(self, table: QuestionTable, slots: np.ndarray, rollouts: np.ndarray, first: np.ndarray) -> None:
        self.table, self.first = table, first
        self.slots = {v: np.concatenate([slots[v], rollouts[v]]) for v in range(len(slots))}
        self.last = np.append(first[1:], len(table))

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        question, start = item
        table, rows = self.table, range(self.first[question], self.last[question])
        row = rows[0]
        video = self.slots[int(table.video[row])]
        if table.category[row] == PREDICTIVE:
            start += 32
        return {
            "slots": np.stack([video[start + 5 * n] for n in range(25)]).astype(np.float32),
            "text": [np.concatenate([table.question_tokens[r], table.choice_tokens[r]]).astype(np.int64) for r in rows],
            "descriptive": bool(table.category[row] == DESCRIPTIVE),
            "answer": [int(table.answer[r]) for r in rows],
        }


def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    counts = torch.tensor([len(item["answer"]) for item in items])
    owner = torch.repeat_interleave(torch.arange(len(items)), counts)
    return {
        "slots": default_collate([item["slots"] for item in items]),
        "text": default_collate([text for item in items for text in item["text"]]),
        "answer": torch.tensor([answer for item in items for answer in item["answer"]]),
        "descriptive": torch.tensor([item["descriptive"] for item in items])[owner],
        "owner": owner,
    }


def load(questions: Questions, batches: list[list[tuple[int, int]]]) -> Iterator[dict[str, Tensor]]:
    """The batches, each a list of (question, first frame), by torch's DataLoader in this process."""
    return iter(DataLoader(questions, batch_sampler=batches, collate_fn=collate))  # type: ignore[arg-type]
