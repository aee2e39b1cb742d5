"""Attention for training on CPU: plain matrix products.

PyTorch's fused kernel has a slow backward pass at 80 tokens (a third of a training step); two
batched products and a softmax are faster. Same mathematics as the class's own processor.
"""

import torch
from diffusers.models.transformers.transformer_ltx import apply_rotary_emb


class PlainAttention:
    _attention_backend = _parallel_config = None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None,
                 image_rotary_emb=None):  # fmt: skip
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q = attn.norm_q(attn.to_q(hidden_states))
        k = attn.norm_k(attn.to_k(context))
        v = attn.to_v(context)
        if image_rotary_emb is not None:
            q, k = apply_rotary_emb(q, image_rotary_emb), apply_rotary_emb(k, image_rotary_emb)
        q, k, v = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if attention_mask is not None:
            scores = scores + attention_mask[:, None]  # [B, 1, L] to [B, heads, queries, L]
        out = scores.float().softmax(-1).to(v.dtype) @ v
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


def install(model: torch.nn.Module) -> None:
    for block in model.transformer_blocks:
        block.attn1.set_processor(PlainAttention())
        block.attn2.set_processor(PlainAttention())
