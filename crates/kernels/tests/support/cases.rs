//! Plans that reach every variant of every kernel, with ragged extents.

#![allow(dead_code, reason = "each test binary uses a part")]

use kinora_kernels::op::{Amplitude, LinearStep, ModulationColumns, Padding};
use kinora_kernels::{
    AttentionOptions, Cadence, Conv3dOptions, Graph, LinearStepInputs, PatchOrder, Plan, Rescale, Shape, Tensor, Weight, WeightFormat,
};

use super::body::noise;

const FORMATS: [WeightFormat; 2] = [WeightFormat::F32, WeightFormat::F16];

/// A plan, the number of terms in its sums, and what its index inputs hold.
pub(crate) struct Case {
    pub(crate) graph: Graph,
    pub(crate) terms: usize,
    pub(crate) indices: Vec<u32>,
}

fn case(terms: usize, build: impl for<'p> FnOnce(&'p Plan) -> Tensor<'p>) -> Case {
    let plan = Plan::new();
    let y = build(&plan);
    plan.output("y", y);
    Case { graph: plan.finish().expect("valid"), terms, indices: (0..ROWS as u32).map(|i| i * 7 % 3).collect() }
}

fn weight(dims: &[usize], format: WeightFormat) -> Weight {
    let shape = Shape::new(dims);
    Weight::from_f32("w", shape, &noise(shape.elements(), 9), format)
}

fn vector(len: usize) -> Weight {
    weight(&[len], WeightFormat::F32)
}

/// Rows of most cases: two tiles of 64 and a ragged one.
const ROWS: usize = 133;

/// Rows of modulation tables.
const TABLE: usize = 3;

type Pointwise = for<'p> fn(Tensor<'p>) -> Tensor<'p>;

const POINTWISE: [Pointwise; 6] = [|x| x, |x| x.gelu_tanh(), |x| x.gelu_erf(), |x| x.silu(), |x| x.relu(), |x| x.tanh()];

fn x(plan: &Plan, columns: usize) -> Tensor<'_> {
    plan.input("x", &[ROWS, columns], Cadence::Once)
}

fn table(plan: &Plan, columns: usize) -> Tensor<'_> {
    plan.input("table", &[TABLE, columns], Cadence::Once)
}

fn index(plan: &Plan) -> Tensor<'_> {
    plan.index_input("index", ROWS, Cadence::Once)
}

fn gemms(cases: &mut Vec<Case>) {
    let k = 37;
    // A wide and a narrow output, for which kernels differ; the second tile of the wide one has two panels.
    for (format, n) in FORMATS.into_iter().flat_map(|format| [(format, 86), (format, 22)]) {
        for bias in [None, Some(vector(n))] {
            let w = weight(&[n, k], format);
            cases.extend(POINTWISE.map(|activation| case(k, |plan| activation(x(plan, k).linear(&w, bias.as_ref())))));
            cases.push(case(k, |plan| x(plan, k).linear(&w, bias.as_ref()) + plan.input("r", &[ROWS, n], Cadence::Once)));
            cases.push(case(k, |plan| {
                let residual = plan.input("r", &[ROWS, n], Cadence::Once);
                x(plan, k).linear(&w, bias.as_ref()).gated_add(residual, table(plan, 72 + n), index(plan), 72)
            }));
        }
    }
}

/// Rows of a product with more than eight tiles of them, which kernels for GPUs take in bands of eight, and its other extents.
const BANDED: [usize; 3] = [650, 86, 5];

fn banded<'p>(plan: &'p Plan, w: &Weight, bias: Option<&Weight>) -> Tensor<'p> {
    plan.input("x", &[BANDED[0], BANDED[2]], Cadence::Once).linear(w, bias)
}

fn banded_gemms(cases: &mut Vec<Case>) {
    let [rows, n, k] = BANDED;
    for format in FORMATS {
        for bias in [None, Some(vector(n))] {
            let w = weight(&[n, k], format);
            cases.extend(POINTWISE.map(|activation| case(k, |plan| activation(banded(plan, &w, bias.as_ref())))));
            cases.push(case(k, |plan| banded(plan, &w, bias.as_ref()) + plan.input("r", &[rows, n], Cadence::Once)));
        }
    }
}

fn convolutions(cases: &mut Vec<Case>) {
    let dims = [2, 3, 4, 6, 6];
    // As wide as high, and not.
    for (format, n, height) in FORMATS.into_iter().flat_map(|format| [(format, 86, 3), (format, 22, 2)]) {
        let (time_padding, space_padding) = (Padding::Replicate, Padding::Zero);
        let options = Conv3dOptions { stride: [1; 3], front: [2, 1, 1], back: [0, height - 2, 1], time_padding, space_padding };
        for bias in [None, Some(vector(n))] {
            for residual in [false, true] {
                cases.push(case(6 * 27, |plan| {
                    let y = plan.input("x", &dims, Cadence::Once).conv3d(&weight(&[n, 6, 3, height, 3], format), bias.as_ref(), &options);
                    if residual { y + plan.input("r", &[2, 3, 4, 6, n], Cadence::Once) } else { y }
                }));
            }
        }
    }
}

/// With as many tiles as the wide kernel for GPUs wants, ends of tiles in all directions, channels that fill no stage, and
/// strides in time.
fn wide_convolutions(cases: &mut Vec<Case>) {
    for (format, padding) in FORMATS.into_iter().zip([Padding::Replicate, Padding::Zero]) {
        let options = Conv3dOptions { stride: [2, 1, 1], front: [1, 1, 2], back: [0, 1, 0], time_padding: padding, space_padding: padding };
        for (bias, residual) in [(None, true), (Some(vector(100)), false)] {
            cases.push(case(10 * 18, |plan| {
                let x = plan.input("x", &[2, 7, 9, 17, 10], Cadence::Once);
                let y = x.conv3d(&weight(&[100, 10, 2, 3, 3], format), bias.as_ref(), &options);
                if residual { y + plan.input("r", &[2, 4, 9, 17, 100], Cadence::Once) } else { y }
            }));
        }
    }
}

fn attentions(cases: &mut Vec<Case>) {
    // With 160 the columns of the values are cut in two.
    for head in [64, 128, 160] {
        for (mask, bias) in [(false, false), (false, true), (true, false), (true, true)] {
            // The last keys are fewer than one lane takes at once.
            cases.push(case(head + 86, |plan| {
                let [q, k, v] = ["q", "k", "v"].map(|name| plan.input(name, &[ROWS, 2 * head], Cadence::Once));
                let hidden: Vec<f32> = (0..ROWS).map(|i| if i % 5 == 1 { -10_000.0 } else { 0.0 }).collect();
                let options = AttentionOptions {
                    heads: 2,
                    scale: 0.1,
                    sequences: vec![[0, 5, 0, 3], [5, 128, 47, 86]],
                    mask: mask.then(|| plan.constant(&[ROWS], &hidden)),
                    bias: bias.then(|| plan.input("bias", &[2, 128, 86], Cadence::Once)),
                };
                q.flash_attention(k, v, &options)
            }));
            // Three parts of one tensor, and keys that fill the last round of a kernel.
            cases.push(case(head + 86, |plan| {
                let all = plan.input("qkv", &[ROWS, 6 * head], Cadence::Once);
                let [q, k, v] = [0, 1, 2].map(|part| all.columns(2 * part * head, 2 * head));
                let options = AttentionOptions {
                    heads: 2,
                    scale: 0.1,
                    sequences: vec![[0, ROWS as u32, 0, 64]],
                    mask: mask.then(|| plan.constant(&[ROWS], &[0.0; ROWS])),
                    bias: bias.then(|| plan.input("bias", &[2, ROWS, 64], Cadence::Once)),
                };
                q.flash_attention(k, v, &options)
            }));
            // Scores so far apart that only the true maximum keeps exponentials from overflowing.
            cases.push(case(1 << 16, |plan| {
                let [q, k, v] = [("q", 9), ("k", 49), ("v", 49)].map(|(name, rows)| plan.input(name, &[rows, 2 * head], Cadence::Once));
                let hidden: Vec<f32> = (0..49).map(|i| if i % 5 == 1 { -10_000.0 } else { 0.0 }).collect();
                let options = AttentionOptions {
                    heads: 2,
                    scale: 60.0,
                    sequences: vec![[0, 9, 0, 49]],
                    mask: mask.then(|| plan.constant(&[49], &hidden)),
                    bias: bias.then(|| plan.input("bias", &[2, 9, 49], Cadence::Once)),
                };
                q.flash_attention(k, v, &options)
            }));
        }
    }
}

fn norms(cases: &mut Vec<Case>) {
    let d = 36;
    for activation in [POINTWISE[0], POINTWISE[3]] {
        cases.push(case(d, |plan| activation(x(plan, d).rms_norm(None, 1e-6))));
        cases.push(case(d, |plan| activation(x(plan, d).layer_norm(Some(&vector(d)), Some(&vector(d)), 1e-6))));
        cases.push(case(d, |plan| {
            activation(x(plan, d).layer_norm(Some(&vector(d)), None, 1e-6).rope(plan.input("angles", &[ROWS, d], Cadence::Once)))
        }));
        cases.push(case(d, |plan| {
            activation(x(plan, d).rms_norm(Some(&vector(d)), 1e-6).rope(plan.input("angles", &[ROWS, d], Cadence::Once)))
        }));
        // Each head by itself, all turned by the same angles.
        cases.push(case(d / 3, |plan| {
            let angles = plan.input("angles", &[ROWS, d / 3], Cadence::Once);
            activation(x(plan, d).grouped_rms_norm(3, Some(&vector(d)), 1e-6).rope(angles))
        }));
        cases.push(case(d, |plan| {
            activation(x(plan, d).layer_norm(None, None, 1e-6).modulate(
                table(plan, 2 * d),
                index(plan),
                ModulationColumns { shift: d, scale: 0 },
            ))
        }));
    }
}

fn group_normed(plan: &Plan, d: usize) -> Tensor<'_> {
    x(plan, d).group_norm(7, 4, Some(&vector(d)), Some(&vector(d)), 1e-6)
}

fn group_norms(cases: &mut Vec<Case>) {
    let d = 36;
    for activation in [POINTWISE[0], POINTWISE[3]] {
        cases.push(case(19 * d, |plan| activation(group_normed(plan, d))));
        let columns = ModulationColumns { shift: d, scale: 0 };
        cases.push(case(19 * d, |plan| activation(group_normed(plan, d).modulate(table(plan, 2 * d), index(plan), columns))));
    }
}

fn others(cases: &mut Vec<Case>) {
    let d = 20;
    cases.extend(POINTWISE.map(|activation| case(1, |plan| activation(x(plan, d).affine(1.0, 0.0)))));
    cases.push(case(1, |plan| x(plan, d) * plan.input("b", &[ROWS, d], Cadence::Once)));
    cases.push(case(1, |plan| x(plan, d).columns(4, 12).contiguous()));
    cases.push(case(1, |plan| x(plan, d).concat(plan.input("b", &[ROWS, 7], Cadence::Once))));
    cases.push(case(1, |plan| {
        let [a, b] = [("a", 2), ("b", 3)].map(|(name, frames)| plan.input(name, &[2, frames, 3, 1, d], Cadence::Once));
        a.concat_frames(b)
    }));
    cases.push(case(4, |plan| x(plan, d).group_mean(4)));
    cases.push(case(1, |plan| x(plan, d).rope(plan.input("angles", &[ROWS, d], Cadence::Once))));
    cases.push(case(1, |plan| x(plan, d).modulate(table(plan, 2 * d), index(plan), ModulationColumns { shift: 0, scale: d })));
    cases.push(case(1, |plan| x(plan, d).gated_add(plan.input("r", &[ROWS, d], Cadence::Once), table(plan, 2 * d), index(plan), d)));
    cases.push(case(1, |plan| table(plan, 2 * d).gather_rows(index(plan))));
    cases.push(case(1, |plan| {
        let offset = plan.index_constant(&[1; ROWS]);
        table(plan, d).gather_rows(plan.index_constant(&[1, 0, 1]).gather_indices(index(plan), offset))
    }));
    // Five channels of three leave a ragged last vector, which is zeroed after the copy.
    cases.push(case(1, |plan| plan.input("x", &[1, 2, 4, 6, 5], Cadence::Once).pixel_unshuffle_3d([1, 2, 3], PatchOrder::TimeHeightWidth)));
    // What reads whole vectors must find zeros there.
    cases.push(case(30, |plan| {
        let tokens = plan.input("x", &[1, 2, 4, 6, 5], Cadence::Once).pixel_unshuffle_3d([1, 2, 3], PatchOrder::TimeHeightWidth);
        tokens.linear(&weight(&[22, 30], WeightFormat::F32), None)
    }));
    // Strides in every loop of a copy, and runs of several scalars.
    for order in [PatchOrder::TimeHeightWidth, PatchOrder::TimeWidthHeight, PatchOrder::ChannelInnermost] {
        cases.push(case(1, |plan| plan.input("x", &[2, 4, 4, 6, 5], Cadence::Once).pixel_unshuffle_3d([2, 2, 3], order)));
        cases.push(case(1, |plan| plan.input("x", &[2, 2, 3, 2, 36], Cadence::Once).pixel_shuffle_3d([2, 2, 3], order)));
    }
    for axes in [[0, 2, 1], [1, 0, 2], [2, 0, 1], [2, 1, 0]] {
        cases.push(case(1, |plan| plan.input("x", &[5, 6, 7], Cadence::Once).permute(&axes)));
    }
    cases.push(case(1, |plan| plan.input("x", &[2, 3, 2, 3, 5], Cadence::Once).upsample_nearest([2, 3, 2])));
    cases.extend([false, true].map(|rescaled| {
        case(2 * d, |plan| {
            let [guidance, share] = ["guidance", "share"].map(|name| plan.input(name, &[ROWS], Cadence::Once));
            let prediction = plan.input("v", &[2 * ROWS, d], Cadence::Once);
            let rescale = Rescale { share, starts: plan.index_constant(&[0, 5, ROWS as u32]) };
            prediction.guide(index(plan), guidance, rescaled.then_some(rescale), d - 3)
        })
    }));
    cases.extend([Amplitude::One, Amplitude::Exponential, Amplitude::Root].map(|amplitude| {
        case(8, |plan| {
            let every = |name, dims: &[usize]| plan.input(name, dims, Cadence::EveryStep);
            let noise = Some((every("noise", &[ROWS, d]), amplitude));
            let inputs = LinearStepInputs { level: index(plan), table: every("table", &[TABLE, LinearStep::COEFFICIENTS]), noise };
            let channels = if matches!(amplitude, Amplitude::One) { d } else { 2 * d };
            plan.state("x", &[3 * ROWS, d]).linear_step(every("v", &[2 * ROWS, channels]), &inputs, 2)
        })
    }));
    // Guided within the step, but for the last channels.
    cases.push(case(8, |plan| {
        let every = |name, dims: &[usize]| plan.input(name, dims, Cadence::EveryStep);
        let level = index(plan);
        let inputs = LinearStepInputs { level, table: every("table", &[TABLE, LinearStep::COEFFICIENTS]), noise: None };
        let guided = every("v", &[2 * ROWS, d]).guide(level, every("guidance", &[ROWS]), None, d - 3);
        plan.state("x", &[2 * ROWS, d]).linear_step(guided, &inputs, 1)
    }));
}

/// A plan of 2³⁵ floating-point operations that holds little: products of its extents do not fit the browser's `usize`.
pub(crate) fn large_product() -> Graph {
    let plan = Plan::new();
    let x = plan.input("x", &[1 << 22, 64], Cadence::EveryStep);
    plan.output("y", x.linear(&weight(&[64, 64], WeightFormat::F32), None));
    plan.finish().expect("valid")
}

/// Rows of a product with so many that kernels take larger tiles, and its other extents.
const TALL: [usize; 3] = [8137, 150, 5];

fn tall<'p>(plan: &'p Plan, w: &Weight, bias: &Weight) -> Tensor<'p> {
    plan.input("x", &[TALL[0], TALL[2]], Cadence::Once).linear(w, Some(bias))
}

fn tall_gemms(cases: &mut Vec<Case>) {
    let [rows, n, k] = TALL;
    for format in FORMATS {
        let (w, bias) = (weight(&[n, k], format), vector(n));
        cases.extend(POINTWISE.map(|activation| case(k, |plan| activation(tall(plan, &w, &bias)))));
        cases.push(case(k, |plan| tall(plan, &w, &bias) + plan.input("r", &[rows, n], Cadence::Once)));
        let mut gated = case(k, |plan| {
            let index = plan.index_input("index", rows, Cadence::Once);
            tall(plan, &w, &bias).gated_add(plan.input("r", &[rows, n], Cadence::Once), table(plan, 72 + n), index, 72)
        });
        gated.indices = (0..rows as u32).map(|i| i * 7 % 3).collect();
        cases.push(gated);
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for add in [gemms, banded_gemms, tall_gemms, convolutions, wide_convolutions, attentions, norms, group_norms, others] {
        add(&mut cases);
    }
    cases
}
