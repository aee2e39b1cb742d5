//! The kernels that are measured, each as a plan of its own.

use kinora_kernels::op::{LinearStep, ModulationColumns, Padding};
use kinora_kernels::{
    AttentionOptions, Cadence, Conv3dOptions, Graph, LinearStepInputs, PatchOrder, Plan, Rescale, Shape, Tensor, Weight, WeightFormat,
    dense_sequences,
};
use kinora_runtime::Result;

pub(crate) fn plan(record: impl for<'p> FnOnce(&'p Plan) -> Tensor<'p>) -> Result<Graph> {
    let plan = Plan::new();
    let y = record(&plan);
    plan.output("y", y);
    Ok(plan.finish()?)
}

pub(crate) fn input<'p>(plan: &'p Plan, name: &str, dims: &[usize]) -> Tensor<'p> {
    plan.input(name, dims, Cadence::EveryStep)
}

fn index(plan: &Plan, len: usize) -> Tensor<'_> {
    plan.index_input("index", len, Cadence::EveryStep)
}

/// As many words as `gather_indices` is measured with.
fn words<'p>(plan: &'p Plan, name: &str) -> Tensor<'p> {
    plan.index_input(name, 1 << 20, Cadence::EveryStep)
}

/// The kernels that compute: name and plan.
pub(crate) fn computing() -> Result<Vec<(String, Graph)>> {
    let mut plans = Vec::new();
    for (format, suffix) in [(WeightFormat::F32, "f32"), (WeightFormat::F16, "f16")] {
        for n in [512, 1024] {
            let graph = plan(|plan| input(plan, "x", &[n, n]).linear(&weight(&[n, n], format), None))?;
            plans.push((format!("gemm/{suffix}/{n}x{n}x{n}"), graph));
        }
    }
    // Enough rows for the larger tiles of the kernels for GPUs.
    let graph = plan(|plan| input(plan, "x", &[2048, 1024]).linear(&weight(&[1024, 1024], WeightFormat::F16), None))?;
    plans.push(("gemm/f16/2048x1024x1024".into(), graph));
    let (time_padding, space_padding) = (Padding::Replicate, Padding::Zero);
    let options = Conv3dOptions { stride: [1; 3], front: [1; 3], back: [1; 3], time_padding, space_padding };
    for (format, suffix) in [(WeightFormat::F32, "f32"), (WeightFormat::F16, "f16")] {
        let graph = plan(|plan| input(plan, "x", &[1, 8, 32, 32, 32]).conv3d(&weight(&[32, 32, 3, 3, 3], format), None, &options))?;
        plans.push((format!("conv3d/{suffix}/32-32/3x3x3/8x32x32"), graph));
    }
    // The last is the head of an autoencoder.
    for (heads, d) in [(4, 64), (2, 128), (1, 384)] {
        let graph = plan(|plan| {
            let [q, k, v] = input(plan, "qkv", &[512, 3 * heads * d]).split();
            let (sequences, scale) = (dense_sequences(1, 512, 512), 1.0 / (d as f32).sqrt());
            q.flash_attention(k, v, &AttentionOptions { heads, scale, sequences, mask: None, bias: None })
        })?;
        plans.push((format!("flash_attention/512/{heads}x{d}"), graph));
    }
    Ok(plans)
}

/// The kernels that hardly compute: name, bytes they read and write, plan.
pub(crate) fn moving() -> Result<Vec<(&'static str, f64, Graph)>> {
    const DIMS: [usize; 2] = [8192, 512];
    let tensor = (DIMS[0] * DIMS[1] * 4) as f64;
    Ok(vec![
        ("layer_norm/8192x512", 2.0 * tensor, plan(|plan| input(plan, "x", &DIMS).layer_norm(None, None, 1e-6))?),
        ("modulate/8192x512", 2.0 * tensor, {
            let columns = ModulationColumns { shift: 0, scale: DIMS[1] };
            plan(|plan| input(plan, "x", &DIMS).modulate(input(plan, "table", &[1, 2 * DIMS[1]]), index(plan, DIMS[0]), columns))?
        }),
        ("add/8192x512", 3.0 * tensor, plan(|plan| input(plan, "x", &DIMS) + input(plan, "b", &DIMS))?),
        ("gather_rows/8192x512", 2.0 * tensor, plan(|plan| input(plan, "x", &DIMS).gather_rows(index(plan, DIMS[0])))?),
        ("gather_indices/1048576", 4.0 * 4.0 * (1 << 20) as f64, {
            plan(|plan| words(plan, "table").gather_indices(words(plan, "index"), words(plan, "offset")))?
        }),
        // Read for its moments, and again.
        ("group_norm/32/8192x512", 3.0 * tensor, plan(|plan| input(plan, "x", &DIMS).group_norm(1, 32, None, None, 1e-6))?),
        ("concat_frames/8x32x32x512", 2.0 * tensor, {
            plan(|plan| input(plan, "a", &[1, 1, 32, 32, 512]).concat_frames(input(plan, "b", &[1, 7, 32, 32, 512])))?
        }),
        ("upsample_nearest/1x2x2/8x16x16x512", 1.25 * tensor, {
            plan(|plan| input(plan, "x", &[1, 8, 16, 16, 512]).upsample_nearest([1, 2, 2]))?
        }),
        ("pixel_unshuffle/1x2x2/8x32x32x512", 2.0 * tensor, {
            plan(|plan| input(plan, "x", &[1, 8, 32, 32, 512]).pixel_unshuffle_3d([1, 2, 2], PatchOrder::TimeHeightWidth))?
        }),
        ("pixel_shuffle/2x2x2/8x16x16x1024", 2.0 * (8 * 16 * 16 * 1024 * 4) as f64, {
            plan(|plan| input(plan, "x", &[1, 8, 16, 16, 1024]).pixel_shuffle_3d([2, 2, 2], PatchOrder::TimeHeightWidth))?
        }),
        ("guide/4096x512", 1.5 * tensor, guide_plan(DIMS, false)?),
        ("guide_rescaled/4096x512", 1.5 * tensor, guide_plan(DIMS, true)?),
        ("linear_step/2/8192x512", 7.0 * tensor, {
            let [rows, channels] = DIMS;
            plan(|plan| {
                let table = input(plan, "table", &[1, LinearStep::COEFFICIENTS]);
                let inputs = LinearStepInputs { level: plan.index_constant(&vec![0; rows]), table, noise: None };
                plan.state("state", &[3 * rows, channels]).linear_step(input(plan, "x", &DIMS), &inputs, 2)
            })?
        }),
    ])
}

/// The first half of the rows guided by the second.
fn guide_plan(dims: [usize; 2], rescaled: bool) -> Result<Graph> {
    let rows = dims[0] as u32 / 2;
    let unconditional: Vec<u32> = (rows..2 * rows).collect();
    plan(|plan| {
        let [guidance, share] = ["guidance", "share"].map(|name| input(plan, name, &[rows as usize]));
        let (unconditional, starts) = (plan.index_constant(&unconditional), plan.index_constant(&[0, rows]));
        input(plan, "x", &dims).guide(unconditional, guidance, rescaled.then_some(Rescale { share, starts }), dims[1])
    })
}

/// Values that no kernel can shortcut.
pub(crate) fn weight(dims: &[usize], format: WeightFormat) -> Weight {
    let shape = Shape::new(dims);
    let values: Vec<f32> = (0..shape.elements()).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
    Weight::from_f32("bench", shape, &values, format)
}
