//! What packing small clips gains over making them one after another.

use std::time::Instant;

use kinora_kernels::CancelToken;
use kinora_runtime::{GenerateRequest, Result, VideoPipeline};

use crate::meter::Spread;

/// Small clips of several shapes, made one after another and packed ([`VideoPipeline::generate_many`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    /// How many.
    pub clips: usize,
    /// Median time of one after another.
    pub milliseconds_alone: f64,
    /// Median time of all at once.
    pub milliseconds_packed: f64,
    /// Median of how many times faster that was than what ran just before.
    pub speedup: f64,
}

/// From wide to tall, width and height in the smallest the model can make, and frames at most.
const BATCH: [[usize; 3]; 8] = [[3, 2, 9], [2, 3, 9], [2, 2, 5], [3, 1, 9], [1, 3, 5], [2, 2, 1], [3, 3, 5], [2, 1, 9]];
const BATCH_ROUNDS: usize = 5;

pub(crate) async fn measure(pipeline: &VideoPipeline) -> Result<Batch> {
    let [_, height, width] = pipeline.compression().token();
    let request = |[w, h, frames]: [usize; 3]| GenerateRequest {
        width: w * width,
        height: h * height,
        frames: pipeline.compression().frames_up_to(frames),
        ..pipeline.request("a small clip")
    };
    let (requests, cancel) = (BATCH.map(request), CancelToken::default());
    let (mut alone, mut packed, mut speedups) = (Vec::new(), Vec::new(), Vec::new());
    // The first round compiles.
    for round in 0..=BATCH_ROUNDS {
        let begun = Instant::now();
        for request in &requests {
            pipeline.generate(request, &cancel, &mut |_| {}).await?;
        }
        let one = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        for clip in pipeline.generate_many(&requests, &cancel, &mut |_, _| {}).await? {
            clip?;
        }
        let many = begun.elapsed().as_secs_f64();
        if round > 0 {
            alone.push(one);
            packed.push(many);
            speedups.push(one / many);
        }
    }
    let milliseconds = |seconds| Spread::of(seconds).median * 1e3;
    Ok(Batch {
        clips: requests.len(),
        milliseconds_alone: milliseconds(alone),
        milliseconds_packed: milliseconds(packed),
        speedup: Spread::of(speedups).median,
    })
}
