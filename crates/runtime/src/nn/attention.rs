//! Multi-head attention over packed sequences, of a token sequence to itself or to another one.

use kinora_kernels::{AttentionOptions, Tensor};

use super::{Linear, RmsNorm, Weights};
use crate::error::Result;

/// Who attends to whom.
#[derive(Clone, Debug, Default)]
pub struct Pattern<'p> {
    /// Per sequence: first query row, query rows, first key row, key rows.
    pub sequences: Vec<[u32; 4]>,
    /// Added to the scores of each key `[Rk]`.
    pub mask: Option<Tensor<'p>>,
    /// Added to the scores of each head, query and key `[N, Lq, Lk]`.
    pub bias: Option<Tensor<'p>>,
}

/// First query row, query rows, first key row, key rows of sequences that lie one after another.
pub fn packed_sequences(queries: &[usize], keys: &[usize]) -> Vec<[u32; 4]> {
    let (mut q, mut k) = (0, 0);
    let mut out = Vec::with_capacity(queries.len());
    for (&q_len, &k_len) in queries.iter().zip(keys) {
        out.push([q, q_len, k, k_len].map(|v| v as u32));
        q += q_len;
        k += k_len;
    }
    out
}

impl<'p> Pattern<'p> {
    /// The tokens of each of several packed sequences attend to each other.
    pub fn within(lengths: &[usize]) -> Self {
        Self { sequences: packed_sequences(lengths, lengths), mask: None, bias: None }
    }

    /// What queries make of keys and values, in so many heads.
    pub fn attend(&self, q: Tensor<'p>, k: Tensor<'p>, v: Tensor<'p>, heads: usize, scale: f32) -> Tensor<'p> {
        let Self { sequences, mask, bias } = self.clone();
        q.flash_attention(k, v, &AttentionOptions { heads, scale, sequences, mask, bias })
    }
}

/// What a checkpoint calls the projections of an attention, and what they look like.
#[derive(Clone, Copy, Debug)]
pub struct AttentionNames {
    /// Query projection.
    pub q: &'static str,
    /// Key projection.
    pub k: &'static str,
    /// Value projection.
    pub v: &'static str,
    /// Output projection.
    pub out: &'static str,
}

/// Attention of tokens to each other.
pub struct SelfAttention {
    qkv: Linear,
    qk_norm: Option<RmsNorm>,
    out: Linear,
    heads: usize,
    scale: f32,
}

impl SelfAttention {
    /// Puts an attention of `heads` heads together; `qkv` gives queries, keys and values side by side.
    pub fn new(qkv: Linear, qk_norm: Option<RmsNorm>, out: Linear, heads: usize, scale: f32) -> Self {
        Self { qkv, qk_norm, out, heads, scale }
    }

    /// An attention of `width` → `heads · head_size` → `width` channels whose projections all have a bias or none.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, names: &AttentionNames, width: usize, heads: usize, head_size: usize, bias: bool) -> Result<Self> {
        let inner = heads * head_size;
        let qkv = w.linear_stack(&[names.q, names.k, names.v], width, inner, bias)?;
        let out = w.linear_stack(&[names.out], inner, width, bias)?;
        Ok(Self::new(qkv, None, out, heads, 1.0 / (head_size as f32).sqrt()))
    }

    /// The same with another factor of the scores than `1/√d`.
    #[must_use]
    pub fn with_scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// `[.., D]` → `[.., D]`; `rope [L, N·d]` rotates queries and keys.
    pub fn forward<'p>(&self, x: Tensor<'p>, rope: Option<Tensor<'p>>, pattern: &Pattern<'p>) -> Tensor<'p> {
        let [q, k, v] = self.project(x, rope);
        self.join(q, k, v, pattern)
    }

    /// Queries, keys and values of `x [.., D]`, of which `rope [L, N·d]` rotates the first two.
    pub fn project<'p>(&self, x: Tensor<'p>, rope: Option<Tensor<'p>>) -> [Tensor<'p>; 3] {
        let qkv = self.qkv.forward(x);
        let inner = qkv.channels() / 3;
        let mut qk = qkv.columns(0, 2 * inner);
        if let Some(norm) = &self.qk_norm {
            qk = norm.forward(qk);
        }
        if let Some(table) = rope {
            qk = qk.rope(table);
        }
        let [q, k] = qk.split();
        [q, k, qkv.columns(2 * inner, inner)]
    }

    /// What queries make of keys and values, `[.., D]`.
    pub fn join<'p>(&self, q: Tensor<'p>, k: Tensor<'p>, v: Tensor<'p>, pattern: &Pattern<'p>) -> Tensor<'p> {
        self.out.forward(pattern.attend(q, k, v, self.heads, self.scale))
    }
}

/// Attention of tokens to a context, with RMS norms of queries and keys.
pub struct CrossAttention {
    q: Linear,
    q_norm: RmsNorm,
    kv: Linear,
    k_norm: RmsNorm,
    out: Linear,
    heads: usize,
    scale: f32,
}

impl CrossAttention {
    /// Puts an attention of `heads` heads together; `kv` gives keys and values side by side.
    pub fn new(q: (Linear, RmsNorm), kv: (Linear, RmsNorm), out: Linear, heads: usize, scale: f32) -> Self {
        Self { q: q.0, q_norm: q.1, kv: kv.0, k_norm: kv.1, out, heads, scale }
    }

    /// `x [.., D]`, `context [.., Dc]` → `[.., D]`.
    pub fn forward<'p>(&self, x: Tensor<'p>, context: Tensor<'p>, pattern: &Pattern<'p>) -> Tensor<'p> {
        let [k, v] = self.kv.forward(context).split();
        let q = self.q_norm.forward(self.q.forward(x));
        let k = self.k_norm.forward(k);
        self.out.forward(pattern.attend(q, k, v, self.heads, self.scale))
    }
}
