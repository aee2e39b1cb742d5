//! Kernels against their twins over random shapes, offsets, tails and formats, from numbers that are the same in every run.
//! `KINORA_CASES` tries more of them, `KINORA_SEED` others.

#[path = "support/random.rs"]
mod random;
mod support;

use kinora_kernels::op::{ModulationColumns, Padding};
use kinora_kernels::{AttentionOptions, Cadence, Conv3dOptions, Device, Graph, PatchOrder, Plan, Shape, Tensor, Weight, WeightFormat};
use random::Random;
use support::body::{compare, noise};
use support::{devices, run};

/// Weights of random shapes and formats.
trait Weights {
    fn weight(&mut self, dims: &[usize]) -> Weight;
    fn vector(&mut self, len: usize) -> Option<Weight>;
}

impl Weights for Random {
    fn weight(&mut self, dims: &[usize]) -> Weight {
        let format = if self.chance() { WeightFormat::F32 } else { WeightFormat::F16 };
        let shape = Shape::new(dims);
        Weight::from_f32("w", shape, &noise(shape.elements(), self.next() as u32), if dims.len() == 1 { WeightFormat::F32 } else { format })
    }

    fn vector(&mut self, len: usize) -> Option<Weight> {
        self.chance().then(|| self.weight(&[len]))
    }
}

/// Something that follows, or nothing.
fn activation<'p>(x: Tensor<'p>, random: &mut Random) -> Tensor<'p> {
    match random.upto(6) {
        1 => x.silu(),
        2 => x.gelu_tanh(),
        3 => x.gelu_erf(),
        4 => x.relu(),
        5 => x.tanh(),
        _ => x,
    }
}

/// `[rows, columns]`, by itself or as columns of something wider.
fn rows<'p>(plan: &'p Plan, dims: [usize; 2], random: &mut Random) -> Tensor<'p> {
    let [rows, columns] = dims;
    if random.chance() {
        return plan.input("x", &dims, Cadence::Once);
    }
    let (before, after) = (4 * random.upto(4), random.upto(9));
    plan.input("x", &[rows, before + columns.next_multiple_of(4) + after], Cadence::Once).columns(before, columns)
}

/// The families of kernels; each returns its result and the terms of its sums.
type Family = for<'p> fn(&'p Plan, &mut Random) -> (Tensor<'p>, usize);

const FAMILIES: [(&str, Family); 14] = [
    ("product", |plan, r| {
        let [m, n, k] = [r.upto(90), r.upto(80), r.upto(70)];
        let (w, bias) = (r.weight(&[n, k]), r.vector(n));
        let y = rows(plan, [m, k], r).linear(&w, bias.as_ref());
        (if r.chance() { y + plan.input("r", &[m, n], Cadence::Once) } else { activation(y, r) }, k)
    }),
    ("gated product", |plan, r| {
        let [m, n, k] = [r.upto(70), 4 * r.upto(15), r.upto(40)];
        let (w, bias) = (r.weight(&[n, k]), r.vector(n));
        let y = plan.input("x", &[m, k], Cadence::Once).linear(&w, bias.as_ref());
        let [residual, table] = [("r", m, n), ("table", 3, 2 * n)].map(|(name, a, b)| plan.input(name, &[a, b], Cadence::Once));
        (y.gated_add(residual, table, plan.index_input("index", m, Cadence::Once), n), k)
    }),
    ("convolution", |plan, r| {
        let kernel = [r.upto(3), r.upto(3), r.upto(3)];
        let [cin, cout] = [r.upto(9), r.upto(20)];
        let size = [0, 1, 2].map(|at: usize| kernel[at] + r.upto(5));
        let ends = |r: &mut Random| [0, 1, 2].map(|at: usize| r.upto(kernel[at]) - 1);
        let padding = |r: &mut Random| if r.chance() { Padding::Zero } else { Padding::Replicate };
        let options = Conv3dOptions {
            stride: [r.upto(2), r.upto(2), r.upto(2)],
            front: ends(r),
            back: ends(r),
            time_padding: padding(r),
            space_padding: Padding::Zero,
        };
        let (w, bias) = (r.weight(&[cout, cin, kernel[0], kernel[1], kernel[2]]), r.vector(cout));
        let x = plan.input("x", &[r.upto(2), size[0], size[1], size[2], cin], Cadence::Once);
        (x.conv3d(&w, bias.as_ref(), &options), cin * kernel.iter().product::<usize>())
    }),
    ("attention", |plan, r| {
        let (heads, head, queries, keys) = (r.upto(3), 4 * r.upto(20), r.upto(70), r.upto(70));
        let [q, k, v] =
            [("q", queries), ("k", keys), ("v", keys)].map(|(name, rows)| plan.input(name, &[rows, heads * head], Cadence::Once));
        let hidden: Vec<f32> = (0..keys).map(|at| if at % 4 == 1 { -10_000.0 } else { 0.0 }).collect();
        let options = AttentionOptions {
            heads,
            scale: 0.2,
            sequences: vec![[0, queries as u32, 0, keys as u32]],
            mask: r.chance().then(|| plan.constant(&[keys], &hidden)),
            bias: r.chance().then(|| plan.input("bias", &[heads, queries, keys], Cadence::Once)),
        };
        (q.flash_attention(k, v, &options), head + keys)
    }),
    ("norm", |plan, r| {
        let [m, c] = [r.upto(90), r.upto(140)];
        let (scale, shift) = (r.vector(c), r.vector(c));
        let x = rows(plan, [m, c], r);
        let y = if r.chance() { x.rms_norm(scale.as_ref(), 1e-5) } else { x.layer_norm(scale.as_ref(), shift.as_ref(), 1e-5) };
        (if r.chance() { y.silu() } else { y }, c)
    }),
    ("modulated norm", |plan, r| {
        let [m, c] = [r.upto(60), 4 * r.upto(16)];
        let [table, index] = [plan.input("table", &[3, 2 * c], Cadence::Once), plan.index_input("index", m, Cadence::Once)];
        let columns = ModulationColumns { shift: c, scale: 0 };
        (plan.input("x", &[m, c], Cadence::Once).layer_norm(None, None, 1e-5).modulate(table, index, columns), c)
    }),
    ("group norm", |plan, r| {
        let (groups, each, batch, m) = (r.upto(4), r.upto(7), r.upto(3), r.upto(60));
        let c = groups * each;
        let (scale, shift) = (r.weight(&[c]), r.weight(&[c]));
        let affine = r.chance();
        let y = plan.input("x", &[batch * m, c], Cadence::Once).group_norm(
            batch,
            groups,
            affine.then_some(&scale),
            affine.then_some(&shift),
            1e-5,
        );
        (if r.chance() { y.silu() } else { y }, m * each)
    }),
    ("rotation", |plan, r| {
        let [m, d] = [r.upto(70), 4 * r.upto(16)];
        let x = rows(plan, [m, d], r);
        (x.rms_norm(None, 1e-5).rope(plan.input("angles", &[m, d], Cadence::Once)), d)
    }),
    ("pointwise", |plan, r| {
        let dims = [r.upto(120), r.upto(70)];
        let x = rows(plan, dims, r).contiguous().affine(1.5, 0.25);
        (if r.chance() { activation(x, r) } else { x * plan.input("b", &dims, Cadence::Once) }, 1)
    }),
    ("joined", |plan, r| {
        let [m, a, b] = [r.upto(70), r.upto(40), r.upto(40)];
        (plan.input("a", &[m, a], Cadence::Once).concat(plan.input("b", &[m, b], Cadence::Once)), 1)
    }),
    ("gathered", |plan, r| {
        let [m, c] = [r.upto(80), r.upto(50)];
        (plan.input("table", &[3, c], Cadence::Once).gather_rows(plan.index_input("index", m, Cadence::Once)), 1)
    }),
    ("patches", |plan, r| {
        let patch = [r.upto(2), r.upto(3), r.upto(3)];
        let order = [PatchOrder::TimeHeightWidth, PatchOrder::TimeWidthHeight, PatchOrder::ChannelInnermost][r.upto(3) - 1];
        let dims = [r.upto(2), patch[0] * r.upto(3), patch[1] * r.upto(3), patch[2] * r.upto(3), r.upto(7)];
        let x = plan.input("x", &dims, Cadence::Once).pixel_unshuffle_3d(patch, order);
        (if r.chance() { x.pixel_shuffle_3d(patch, order) } else { x }, 1)
    }),
    ("permuted", |plan, r| {
        let dims = [r.upto(5), r.upto(9), r.upto(9)];
        let orders = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        (plan.input("x", &dims, Cadence::Once).permute(&orders[r.upto(5) - 1]), 1)
    }),
    ("frames", |plan, r| {
        let (frames, c) = (1 + r.upto(4), r.upto(9));
        let x = plan.input("x", &[r.upto(2), frames, r.upto(4), r.upto(4), c], Cadence::Once);
        (if r.chance() { x.slice_frames(r.upto(frames) - 1, 1) } else { x.upsample_nearest([r.upto(2), r.upto(3), r.upto(2)]) }, 1)
    }),
];

fn record(family: Family, seed: u64) -> (Graph, usize) {
    let plan = Plan::new();
    let (y, terms) = family(&plan, &mut Random(seed));
    plan.output("y", y);
    (plan.finish().expect("valid"), terms)
}

#[test]
fn random_shapes_match_their_twins() {
    let number = |name: &str, otherwise| std::env::var(name).ok().map_or(otherwise, |text| text.parse::<u64>().expect("a number"));
    let (cases, seed) = (number("KINORA_CASES", 350), number("KINORA_SEED", 20_261_128));
    for case in 0..cases {
        let (name, family) = FAMILIES[case as usize % FAMILIES.len()];
        let own = seed.wrapping_add(case.wrapping_mul(0x9e37_79b9));
        let (graph, terms) = record(family, own);
        let indices: Vec<u32> = match graph.values.iter().find(|value| value.elem == kinora_kernels::Elem::U32) {
            Some(value) => (0..value.shape.elements() as u32).map(|at| at * 7 % 3).collect(),
            None => Vec::new(),
        };
        let expected = run(&Device::cpu(), &graph, &indices);
        for device in devices().iter().chain([&Device::host(None)]) {
            let compared = pollster::block_on(compare(device, &graph, terms, &indices, &expected));
            compared.unwrap_or_else(|problem| panic!("{name}, seed {own}: {problem}"));
        }
    }
    println!("{cases} cases on {} devices", devices().len());
}
