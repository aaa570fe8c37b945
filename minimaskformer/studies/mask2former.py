"""Where the field went next: the three changes of Mask2Former (Cheng et al. 2022, arXiv 2112.01527), sketched.

    masked attention   a query reads only where the previous layer has drawn its mask    (section 3.2.1)
    multi-scale        layers take turns: memory at stride 32, 16, 8, 32, ...             (section 3.2.2)
    point losses       the mask losses look at some points, most of them uncertain        (section 3.3)

A sketch to read and to run on this library's parts, not a reproduction: no deformable attention, no weights to load.
"""
import torch
import torch.nn.functional as F
from torch import nn

from ..model import Output
from ..transformer import DecoderLayer, sine_positions


def attention_mask(mask_logits, size):
    """What each query must not read: bool [..., N, h*w] from the mask logits [..., N, H, W] of the previous layer.

    True where the mask, resized to the memory's `size` (h, w) bilinearly as logits, is below probability 0.5 (that
    paper's Eq. 2). A query whose mask is empty at that size reads everything: softmax over nothing would be nan.
    """
    lead = mask_logits.shape[:-2]
    resized = F.interpolate(mask_logits.reshape(1, -1, *mask_logits.shape[-2:]), size=size, mode="bilinear",
                            align_corners=False)  # [1, n, h, w]
    forbidden = (resized.reshape(*lead, -1) < 0).detach()  # logit 0 is probability 0.5
    return forbidden & ~forbidden.all(-1, keepdim=True)  # [..., N, h*w]


class MaskedDecoder(nn.Module):
    """A decoder with masked attention over three scales in turn; each layer has cross- before self-attention.

    The heads are the model's own. They answer after every layer and *before* the first: that answer is the first mask.
    """

    def __init__(self, dim, num_queries, num_layers=9, num_heads=8, feedforward=2048, levels=3):
        super().__init__()
        self.query_features = nn.Embedding(num_queries, dim)  # learned, not zero: they produce the first masks
        self.query_positions = nn.Embedding(num_queries, dim)
        self.level_embedding = nn.Embedding(levels, dim)
        self.layers = nn.ModuleList([DecoderLayer(dim, num_heads, feedforward, 0.0) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, memories, pixel_embeddings, class_head, mask_head):
        """memories: maps [B, C, h, w], coarse to fine; pixel_embeddings [B, E, H/4, W/4]. Returns an `Output`."""
        B = len(pixel_embeddings)
        keys, values = zip(*(self.flat(level, memory) for level, memory in enumerate(memories)))
        query_positions = self.query_positions.weight.expand(B, -1, -1)  # [B, N, C]
        x = self.query_features.weight.expand(B, -1, -1)  # [B, N, C]
        answers = [self.answer(x, pixel_embeddings, class_head, mask_head)]
        for i, layer in enumerate(self.layers):
            level = i % len(memories)
            forbidden = attention_mask(answers[-1].mask_logits, memories[level].shape[-2:])  # [B, N, P]
            forbidden = forbidden.repeat_interleave(layer.cross_attn.num_heads, 0)  # [B * heads, N, P]
            read = layer.cross_attn(x + query_positions, keys[level], values[level], attn_mask=forbidden,
                                    need_weights=False)[0]
            x = layer.norm2(x + read)
            q = k = x + query_positions
            x = layer.norm1(x + layer.self_attn(q, k, x, need_weights=False)[0])
            x = layer.norm3(x + layer.mlp(x))
            answers.append(self.answer(x, pixel_embeddings, class_head, mask_head))
        return answers[-1]._replace(aux=tuple(answers[:-1]))

    def flat(self, level, memory):
        """Keys (with positions) and values of one scale, [B, P, C] each; a learned vector says which scale it is."""
        image_mask = torch.ones(memory.shape[0], *memory.shape[-2:], dtype=torch.bool, device=memory.device)
        positions = sine_positions(image_mask, memory.shape[1]).flatten(2).mT  # [B, P, C]
        values = memory.flatten(2).mT + self.level_embedding.weight[level]  # [B, P, C]
        return values + positions, values

    def answer(self, x, pixel_embeddings, class_head, mask_head):
        """Class and mask logits of the present states, as an `Output` without auxiliary layers."""
        states = self.norm(x)  # [B, N, C]
        return Output(class_head(states), torch.einsum("bnc,bchw->bnhw", mask_head(states), pixel_embeddings))
