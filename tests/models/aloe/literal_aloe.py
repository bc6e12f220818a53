"""ALOE implemented literally and slowly (nn.TransformerEncoder, every token computed for every sequence), for comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LiteralEncoder(nn.Module):
    def __init__(self, layers: int, heads: int, width: int, ffn: int, dropout: float, positions: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, positions, width))
        layer = nn.TransformerEncoderLayer(width, heads, ffn, dropout, "relu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).layers

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = x + self.pos_embedding
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        return x


class LiteralTensors(nn.Module):
    def __init__(self, layers: int, heads: int, width: int, ffn: int, dropout: float, visual_tokens: int) -> None:
        super().__init__()
        self.CLS = nn.Parameter(torch.zeros(1, 1, width))
        one, two = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        fixed = dict(text_token=one, vision_token=two, cls_token=two, mc_question_token=one, mc_choice_token=two)
        for name, value in fixed.items():
            setattr(self, name, nn.Parameter(value.clone(), requires_grad=False))
        self.transformer_encoder = LiteralEncoder(layers, heads, width, ffn, dropout, 1 + visual_tokens + 32)
        self.q_embedding = nn.Embedding(82, 14)
        self.q_in_proj = nn.Linear(14 + 4, width)
        self.vision_in_proj = nn.Linear(128 + 2, width)
        self.cls_answer_mlp = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 22))
        self.mc_answer_mlp = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 1))


class LiteralAloe(nn.Module):
    """slots (B,T,N,128), one video per sequence; question (B,20), choice (B,12) word ids, 0 = padding; is_descriptive (B,).

    Returns answer logits (B,22) and option logits (B,).
    """

    def __init__(self, layers=12, heads=8, width=144, ffn=512, dropout=0.1, visual_tokens=175) -> None:
        super().__init__()
        self.transformer_model = LiteralTensors(layers, heads, width, ffn, dropout, visual_tokens)

    def forward(self, slots: Tensor, question: Tensor, choice: Tensor, is_descriptive: Tensor) -> tuple[Tensor, Tensor]:
        m = self.transformer_model
        sequences = []
        for i in range(len(slots)):
            vision = slots[i].flatten(0, 1)
            vision = torch.cat([vision, m.vision_token.expand(len(vision), 2)], 1)
            if is_descriptive[i]:
                ids = m.cls_token.expand(32, 2)
            else:
                ids = torch.cat([m.mc_question_token.expand(20, 2), m.mc_choice_token.expand(12, 2)])
            words = m.q_embedding(torch.cat([question[i], choice[i]]))
            text = torch.cat([words, ids, m.text_token.expand(32, 2)], 1)
            sequences.append(torch.cat([m.CLS[0], m.vision_in_proj(vision), m.q_in_proj(text)]))
        seen = torch.zeros(len(slots), 1 + slots.shape[1] * slots.shape[2], dtype=torch.bool)
        padding = torch.cat([seen, question == 0, choice == 0], 1)
        cls = m.transformer_encoder(torch.stack(sequences), padding)[:, 0]
        return m.cls_answer_mlp(cls), m.mc_answer_mlp(cls)[:, 0]
