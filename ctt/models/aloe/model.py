"""ALOE as SlotFormer and C-JEPA use it: a pre-LN transformer over [CLS, slot tokens, words] with two heads on CLS.

Tensor names are the published ones (`transformer_model.…`). It is faster than nn.TransformerEncoder, with equal results:
the last layer is computed for CLS alone, words come from a table of projected embeddings, and slots are projected once per
question. With words=vector (not published) no token is a word: the words become one vector that is added to CLS and to the
slots, which depend on the question from the first layer on. With words=film it also scales them (FiLM, arXiv 1709.07871, §2),
so that one product selects a named slot, and a question with "not" can reverse signs.
Source: arXiv 2210.05861. Shape letters: Q questions, B sequences (a descriptive question, or one choice of a
multiple-choice question), F sampled frames, S slots, D slot width, L words, N tokens, E width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctt.core.errors import DataError
from ctt.data.data_format import CLEVRER, DataFormat
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.encoder import AloeEncoder
from ctt.models.aloe.frame_sampling import FrameSampling

MOTION_GAIN = 4.0
SPARSE_GAIN = 2.0
"""words=vector and film: most of the 32 word positions are empty, so their projection starts larger than torch's default."""


@dataclass
class AloeInput:
    """Sequences that see equally many frames.

    given (Q,F,S,D): sampled slots; added (Q,P,S,D): appended predicted slots, or None; owner (B,): each sequence's row in them;
    text (B,L): word ids, 0 = padding; columns (L,): the positions of these words, those of the question first, then those of
    the choice (unused positions are left out); descriptive (B,): whether the sequence is a question without choices; padded:
    whether `text` holds a padding, read from it if it is not given.
    """

    given: Tensor
    added: Tensor | None
    owner: Tensor
    text: Tensor
    columns: Tensor
    descriptive: Tensor
    padded: bool | None = None

    def __post_init__(self) -> None:
        if self.padded is None:  # on a device this waits
            self.padded = bool((self.text == 0).any())

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> AloeInput:
        """The same input with these tensors in the place of its own."""
        return AloeInput(**{**vars(self), **tensors})


class QuestionConditioning(NamedTuple):
    """How the words of a sequence change CLS and the slots, each (B,1,E): vectors to add and, with words=film, factors
    of the last layer's CLS and of the slots before the addition."""

    for_cls: Tensor
    for_slots: Tensor
    scales: tuple[Tensor, Tensor] | None


class Tensors(nn.Module):
    """All of ALOE's tensors under their published names."""

    text_token: Tensor
    vision_token: Tensor
    cls_token: Tensor
    mc_question_token: Tensor
    mc_choice_token: Tensor

    def __init__(self, sampling: FrameSampling) -> None:
        super().__init__()
        settings, added = sampling.settings, sampling.added_frames
        slots, slot_width, spoken = sampling.format.slots, sampling.format.width, sampling.format.vocabulary
        words, classes, length = len(spoken.words) + 1, len(spoken.answers) + 1, spoken.text_length  # 0 is the padding
        width, hidden = settings.width, settings.head_hidden
        trajectory = settings.tokens == "trajectory"
        self.CLS = nn.Parameter(torch.zeros(1, 1, width))
        first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        for name, value in (
            ("text_token", first),
            ("vision_token", second),
            ("cls_token", second),
            ("mc_question_token", first),
            ("mc_choice_token", second),
        ):
            self.register_buffer(name, value.clone())
        visual = 0 if trajectory else slots * (settings.frames + added)
        vector = settings.words != "tokens"
        self.transformer_encoder = AloeEncoder(settings, 1 + visual + (0 if vector else length))
        self.q_embedding = nn.Embedding(words, settings.word_width)
        if vector:
            self.text_in_proj = nn.Linear(length * settings.word_width, width)
            with torch.no_grad():
                self.text_in_proj.weight *= SPARSE_GAIN
            self.text_out_proj = nn.Linear(width, (4 if settings.words == "film" else 2) * width)
        else:
            self.q_in_proj = nn.Linear(settings.word_width + 4, width)
        if trajectory:
            self.frame_in_proj = nn.Linear(slot_width, settings.frame_width, bias=False)
            if added:
                columns = (2 * added - 1) * settings.frame_width
                self.added_in_proj = nn.Linear(columns, width, bias=False)
            slot_width = (2 * settings.frames - 1) * settings.frame_width
        self.vision_in_proj = nn.Linear(slot_width + 2, width)
        self.cls_answer_mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        self.mc_answer_mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))


class Aloe(nn.Module):
    """The published architecture (settings.tokens=frames), or one token per slot (trajectory).

    longest: number of tokens of the longest sequence. Raises SettingError if the settings do not fit the format.
    """

    def __init__(self, settings: AloeSettings, data_format: DataFormat = CLEVRER) -> None:
        super().__init__()
        self.settings, sampling = settings, FrameSampling(settings, data_format)
        self.transformer_model = Tensors(sampling)
        self.vocabulary = data_format.vocabulary
        self.words = len(self.vocabulary.words) + 1
        slots = data_format.slots
        seen = slots if settings.tokens == "trajectory" else slots * (settings.frames + sampling.added_frames)
        self.longest = 1 + seen + (self.vocabulary.text_length if settings.words == "tokens" else 0)

    def forward(self, batch: AloeInput) -> tuple[Tensor, Tensor]:
        """Answer logits (B,classes), read for questions without choices, and option logits (B,), read for choices."""
        t = self.transformer_model
        conditioning = None if self.settings.words == "tokens" else self._conditioning(batch)
        tokens, padding = self.embed(batch, conditioning)
        cls = t.transformer_encoder(tokens, padding)
        if conditioning is not None and conditioning.scales is not None:
            cls = cls * (1 + conditioning.scales[0][:, 0])
        return t.cls_answer_mlp(cls), t.mc_answer_mlp(cls)[:, 0]

    def embed(self, batch: AloeInput, question: QuestionConditioning | None = None) -> tuple[Tensor, Tensor | None]:
        """Tokens (B,N,E) with positions added, CLS first, and the attention bias (B,1,N), −∞ at padding words, or None."""
        t = self.transformer_model
        positions = t.transformer_encoder.pos_embedding[0]
        b = len(batch.owner)
        slots = self._slot_tokens(batch)
        seen = slots.shape[1]
        slots = slots.index_select(0, batch.owner)
        if question is not None:
            cls = (t.CLS[0] + positions[:1])[None] + question.for_cls
            if question.scales is not None:
                slots = slots * (1 + question.scales[1].to(slots.dtype))
            return torch.cat([cls.to(slots.dtype), slots + question.for_slots.to(slots.dtype)], 1), None
        text = F.embedding(batch.text + self.words * self._is_choice(batch), self._word_table())
        text = text + positions[-self.vocabulary.text_length :].index_select(0, batch.columns)
        cls = (t.CLS[0] + positions[:1]).expand(b, 1, -1)
        pad = batch.text == 0
        if not self.training and not batch.padded:
            return torch.cat([cls.to(slots.dtype), slots, text.to(slots.dtype)], 1), None
        bias = torch.zeros(b, 1, 1 + seen + text.shape[1], dtype=slots.dtype, device=slots.device)
        bias[:, 0, 1 + seen :].masked_fill_(pad, -torch.inf)
        return torch.cat([cls.to(slots.dtype), slots, text.to(slots.dtype)], 1), bias

    def _slot_tokens(self, batch: AloeInput) -> Tensor:
        """(Q,tokens,E). Trajectory tokens have no positions, so that slots are a set; predicted frames are added to their slot."""
        t = self.transformer_model
        if self.settings.tokens == "trajectory":
            tokens = project(self._trajectories(batch.given), t.vision_in_proj, t.vision_token)
            return tokens if batch.added is None else tokens + t.added_in_proj(self._trajectories(batch.added))
        slots = batch.given if batch.added is None else torch.cat([batch.given, batch.added], 1)
        tokens = project(slots.flatten(1, 2), t.vision_in_proj, t.vision_token)
        return tokens + t.transformer_encoder.pos_embedding[0, 1 : 1 + tokens.shape[1]]

    def _trajectories(self, slots: Tensor) -> Tensor:
        """(Q,F,S,D) → (Q,S,(2F−1)·C): a slot's frames, concatenated after the same projection, then their differences.

        Motion is a small part of the variation between slots; MOTION_GAIN makes it as large as the rest.
        """
        frames = self.transformer_model.frame_in_proj(slots)
        motion = MOTION_GAIN * frames.diff(dim=1)
        return torch.cat([frames, motion], 1).transpose(1, 2).flatten(2)

    def _conditioning(self, batch: AloeInput) -> QuestionConditioning:
        """The words at their positions as vectors for CLS and for the slots. Choices have positions of their own."""
        t = self.transformer_model
        words = F.embedding(batch.text, t.q_embedding.weight) * (batch.text != 0)[..., None]
        weight = t.text_in_proj.weight.view(self.settings.width, self.vocabulary.text_length, -1).index_select(1, batch.columns)
        hidden = F.relu(F.linear(words.flatten(1), weight.flatten(1), t.text_in_proj.bias))
        for_cls, for_slots, *scales = t.text_out_proj(hidden)[:, None].split(self.settings.width, -1)
        return QuestionConditioning(for_cls, for_slots, (scales[1], scales[0]) if scales else None)

    def _is_choice(self, batch: AloeInput) -> Tensor:
        """(B,L): 1 where a word has the second of the two ids: in a question without choices, or in a choice."""
        return (batch.descriptive[:, None] | (batch.columns >= self.vocabulary.question_length)[None]).long()

    def _word_table(self) -> Tensor:
        """(2·words,E): each word's token without its position, first with the id of questions, then with that of choices."""
        t = self.transformer_model
        words = t.q_embedding.weight
        with_id = [torch.cat([words, kind.expand(self.words, 2)], 1) for kind in (t.mc_question_token, t.mc_choice_token)]
        return project(torch.cat(with_id), t.q_in_proj, t.text_token)


def project(features: Tensor, layer: nn.Linear, modality: Tensor) -> Tensor:
    """layer([features, modality]) without appending the constant modality to every token: (…,C) → (…,E)."""
    c = features.shape[-1]
    return F.linear(features, layer.weight[:, :c], layer.bias + layer.weight[:, c:] @ modality)


def load_published(model: Aloe, state: Mapping[str, object]) -> None:
    """Fills `model` from a published checkpoint: plain or {'state_dict': …}, names with or without `module.`.

    Raises DataError naming the tensors that are missing, unexpected or of another shape.
    """
    inner = state.get("state_dict", state)
    if not isinstance(inner, Mapping):
        raise DataError("the checkpoint's 'state_dict' is not a table of tensors")
    own = model.state_dict()
    found = {name.removeprefix("module."): value for name, value in inner.items() if isinstance(value, Tensor)}
    fits = {name: value for name, value in found.items() if name in own and _sizes(value) == _sizes(own[name])}
    missing = sorted(set(own) - set(found))
    unexpected = sorted(set(found) - set(own))
    wrong = sorted(name for name in own if name in found and name not in fits)
    if missing or unexpected or wrong:
        parts = [
            f"{problem}: {', '.join(names[:5])}"
            for problem, names in (("missing", missing), ("unexpected", unexpected), ("other shape", wrong))
            if names
        ]
        raise DataError("the checkpoint does not fit ALOE's settings; " + "; ".join(parts))
    model.load_state_dict({name: value.reshape(own[name].shape) for name, value in fits.items()})


def _sizes(value: Tensor) -> list[int]:
    """The shape without dimensions of 1: (1, 1, 2) and (2,) are the same fixed token."""
    return [size for size in value.shape if size != 1]
