//! Softmax attention over packed sequences.

use crate::generated::flash_soft::Sharing;
use crate::generated::{flash_gpu, flash_soft};
use crate::lower::{Binding, Lowering};
use crate::op::{Attention, Op};
use crate::plan::Elem;
use crate::preset::Preset;
use crate::tensor::Tensor;

/// What an attention needs beside queries, keys and values.
#[derive(Clone, Debug)]
pub struct AttentionOptions<'p> {
    /// Number of heads N; head `h` owns columns `h·d .. (h + 1)·d`.
    pub heads: usize,
    /// Factor of the scores, usually `1/√d`.
    pub scale: f32,
    /// Per sequence: first query row, query rows, first key row, key rows.
    pub sequences: Vec<[u32; 4]>,
    /// Additive key mask `[Rk]`, one entry per key row.
    pub mask: Option<Tensor<'p>>,
    /// Additive bias `[N, Lq, Lk]`, shared by all sequences.
    pub bias: Option<Tensor<'p>>,
}

/// The head sizes that attention takes, on every device. Sizes that are no multiple of four cost a padded copy of queries,
/// keys, values and result; above 128 the kernels for GPUs compute the scores once per 128 columns of the values.
pub const HEAD_SIZES: std::ops::RangeInclusive<usize> = 1..=1024;

/// `batch` sequences of equal length, stored one after another.
pub fn dense_sequences(batch: usize, queries: usize, keys: usize) -> Vec<[u32; 4]> {
    (0..batch).map(|b| [b * queries, queries, b * keys, keys].map(|v| v as u32)).collect()
}

impl<'p> Tensor<'p> {
    /// `softmax(scale · q kᵀ + bias + mask) v`, per head and sequence.
    ///
    /// | tensor   | shape          | access |
    /// |----------|----------------|--------|
    /// | `self`   | `[Rq.., N·d]`  | read   |
    /// | `k`, `v` | `[Rk.., N·d]`  | read   |
    /// | result   | `[Rq.., N·d]`  | write  |
    ///
    /// `d` is one of [`HEAD_SIZES`]. Rows of `self` outside every sequence are left undefined.
    #[track_caller]
    pub fn flash_attention(self, k: Self, v: Self, options: &AttentionOptions<'p>) -> Self {
        let AttentionOptions { heads, scale, sequences, mask, bias } = options;
        let (plan, c) = (self.plan(), self.channels());
        if *heads == 0 || c % heads != 0 || !HEAD_SIZES.contains(&(c / heads)) {
            let expected = format!("a head size of {} to {}", HEAD_SIZES.start(), HEAD_SIZES.end());
            plan.fail("flash_attention", expected, format!("{c} channels in {heads} heads"));
            return self;
        }
        if k.channels() != c || v.channels() != c || k.rows() != v.rows() {
            plan.fail("flash_attention", format!("keys and values [Rk, {c}]"), format!("{} and {}", k.shape(), v.shape()));
        }
        for s in sequences {
            if (s[0] + s[1]) as usize > self.rows() || (s[2] + s[3]) as usize > k.rows() || s[3] == 0 {
                plan.fail("flash_attention", format!("sequences within {} query and {} key rows", self.rows(), k.rows()), format!("{s:?}"));
            }
        }
        let d = c / heads;
        let [q, k, v] = if d.is_multiple_of(4) { [self, k, v] } else { [self, k, v].map(|t| t.pad_heads(*heads)) };
        let mut inputs = vec![q.operand(), k.operand(), v.operand()];
        if let Some(mask) = mask {
            if mask.shape().elements() != k.rows() {
                plan.fail("flash_attention", format!("a mask of {} entries", k.rows()), mask.shape().to_string());
            }
            inputs.push(mask.operand());
        }
        if let Some(bias) = bias {
            let longest = |i: usize| sequences.iter().map(|s| s[i] as usize).max().unwrap_or(0);
            let fits = matches!(bias.shape().dims(), [n, q, k] if n == heads && *q >= longest(1) && *k >= longest(3));
            if !fits {
                plan.fail("flash_attention", format!("a bias [{heads}, {}, {}]", longest(1), longest(3)), bias.shape().to_string());
            }
            inputs.push(bias.operand());
        }
        let op = Attention { heads: *heads, scale: *scale, sequences: sequences.clone(), mask: mask.is_some(), bias: bias.is_some() };
        let y = plan.record(Op::Attention(op), inputs, q.shape(), Elem::F32);
        if d.is_multiple_of(4) { y } else { y.unpad_heads(*heads, d) }
    }
}

/// Query rows of one work item, with every preset.
const TILE_ROWS: u32 = 64;

pub(super) fn lower(op: &Attention, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let head = shape.channels() / op.heads;
    let tiles = query_tiles(&op.sequences);
    let flops = op.sequences.iter().map(|s| 4.0 * f64::from(s[1]) * f64::from(s[3]) * shape.channels() as f64).sum();
    let num_tiles = tiles.len() / TILE_WORDS;
    // Mask and bias are inputs 3 and 4, as many as there are.
    let extra = (3..cx.step.inputs.len()).map(|i| cx.input(i));
    let inputs = [cx.input(0), cx.input(1), cx.input(2), Binding::Data(tiles)];
    let bindings = inputs.into_iter().chain(extra).chain([cx.output()]).collect();
    let bias = op.bias.then(|| 3 + usize::from(op.mask));
    // The fields that both kernels have.
    macro_rules! params {
        ($kernel:ident) => {
            $kernel::Params {
                head4: (head / 4) as u32,
                q_row_stride4: cx.stride4(0),
                q_base4: cx.base4(0),
                k_row_stride4: cx.stride4(1),
                k_base4: cx.base4(1),
                v_row_stride4: cx.stride4(2),
                v_base4: cx.base4(2),
                o_row_stride4: shape.channels4() as u32,
                bias_rows: bias.map_or(0, |i| cx.shape(i).dims()[1] as u32),
                bias_row_stride4: bias.map_or(0, |i| cx.stride4(i)),
                scale: op.scale,
                ..Default::default()
            }
        };
    }
    match cx.preset {
        Preset::Soft | Preset::Quads | Preset::Lanes => {
            let params = flash_soft::Params { heads: op.heads as u32, ..params!(flash_soft) };
            let sharing = match cx.preset {
                Preset::Lanes => Sharing::Lanes,
                Preset::Quads => Sharing::Quads,
                Preset::Soft | Preset::Gpu => Sharing::Alone,
            };
            let kernel = flash_soft::Variant { sharing, mask: op.mask, bias: op.bias }.kernel();
            cx.dispatch(kernel, num_tiles * op.heads, flops, bindings, params);
        }
        Preset::Gpu => {
            let slices = head.div_ceil(128);
            let params = flash_gpu::Params { tiles: num_tiles as u32, slices: slices as u32, ..params!(flash_gpu) };
            let width = if head <= 64 { flash_gpu::Head::N64 } else { flash_gpu::Head::N128 };
            let kernel = flash_gpu::Variant { head: width, mask: op.mask, bias: op.bias }.kernel();
            let items = num_tiles * slices * op.heads;
            cx.dispatch(kernel, items, flops, bindings, params);
        }
    }
}

/// Words of a `Tile` of the kernels.
const TILE_WORDS: usize = 8;

/// The query tiles of all sequences, as the kernels' `Tile` records.
fn query_tiles(sequences: &[[u32; 4]]) -> Vec<u32> {
    let mut words = Vec::new();
    for &[q_start, q_len, k_start, k_len] in sequences {
        for local in (0..q_len).step_by(TILE_ROWS as usize) {
            words.extend([q_start + local, TILE_ROWS.min(q_len - local), local, k_start, k_len, 0, 0, 0]);
        }
    }
    words
}
