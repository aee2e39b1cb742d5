//! Names that others give the tensors of T5 and UMT5, and the configurations that their shapes imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family: transformers' (ComfyUI has it too), `llama.cpp`'s GGUF, and that of Wan's authors.
pub(super) const LAYOUTS: &[Layout] = &[
    layout("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", &[]),
    layout("enc.blk.0.attn_rel_b.weight", LLAMA),
    layout("blocks.0.pos_embedding.embedding.weight", WAN),
];

const fn layout(mark: &'static str, names: &'static [&'static str]) -> Layout {
    Layout { prefixes: &["text_encoders.t5xxl.transformer.", "text_encoder.", ""], mark, names, config, pipeline: |_| None }
}

const LLAMA: &[&str] = &[
    "token_embd shared
enc.output_norm encoder.final_layer_norm
enc.blk.N encoder.block.N",
    ".attn_q .layer.0.SelfAttention.q
.attn_k .layer.0.SelfAttention.k
.attn_v .layer.0.SelfAttention.v
.attn_o .layer.0.SelfAttention.o
.attn_rel_b .layer.0.SelfAttention.relative_attention_bias
.attn_norm .layer.0.layer_norm
.ffn_gate .layer.1.DenseReluDense.wi_0
.ffn_up .layer.1.DenseReluDense.wi_1
.ffn_down .layer.1.DenseReluDense.wo
.ffn_norm .layer.1.layer_norm",
];

const WAN: &[&str] = &[
    "token_embedding shared
norm encoder.final_layer_norm
blocks.N encoder.block.N",
    ".attn .layer.0.SelfAttention
.pos_embedding.embedding .layer.0.SelfAttention.relative_attention_bias
.norm1 .layer.0.layer_norm
.norm2 .layer.1.layer_norm
.ffn.gate.0 .layer.1.DenseReluDense.wi_0
.ffn.fc1 .layer.1.DenseReluDense.wi_1
.ffn.fc2 .layer.1.DenseReluDense.wo",
];

fn config(tensors: &Tensors<'_>) -> Result<Value> {
    const FIRST: &str = "encoder.block.0.layer.";
    let extent = |name: &str, axis| tensors.extent(&format!("{FIRST}{name}.weight"), axis);
    let table = if tensors.contains("shared.weight") { "shared.weight" } else { "encoder.embed_tokens.weight" };
    let (buckets, heads) = (extent("0.SelfAttention.relative_attention_bias", 0)?, extent("0.SelfAttention.relative_attention_bias", 1)?);
    let gated = tensors.contains(&format!("{FIRST}1.DenseReluDense.wi_0.weight"));
    // The widths of the two are the same; what tells them apart is a table in every block.
    let per_block = tensors.contains("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight");
    Ok(json!({
        "architectures": [if per_block { "UMT5EncoderModel" } else { "T5EncoderModel" }],
        "vocab_size": tensors.extent(table, 0)?,
        "d_model": tensors.extent(table, 1)?,
        "d_kv": extent("0.SelfAttention.q", 0)? / heads,
        "d_ff": extent("1.DenseReluDense.wo", 1)?,
        "num_layers": tensors.count("encoder.block"),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": if gated { "gated-gelu" } else { "relu" },
    }))
}
