//! Random generations whose memory is foretold and measured: natively by `tests/requirements.rs`, in a browser by `web/test`.

#![allow(dead_code, reason = "each test binary uses a part")]

use kinora_runtime::conditioning::{CLEAN, Conditioning, FramePlan, SourceFrame};
use kinora_runtime::{GenerateRequest, VideoPipeline};

/// Seeded numbers below a bound.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(crate) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// A request of any size, guidance and previews, and with a first frame where the model takes one.
pub(crate) fn request(pipeline: &VideoPipeline, random: &mut Random) -> GenerateRequest {
    let (width, height) = (random.of(&[32, 64, 96]), random.of(&[32, 64]));
    let frames = random.of(&[1, 5, 9, 17]);
    let guidance: f32 = random.of(&[1.0, 3.0]);
    let words = ["water", "a boat", "the red ball of the king"];
    let mut request = GenerateRequest {
        width,
        height,
        frames,
        steps: 2,
        guidance: guidance.into(),
        negative: random.of(&["", "a dog and a cat"]).into(),
        preview_every: random.below(2) as usize,
        ..pipeline.request(random.of(&words))
    };
    if frames > 1 && random.below(3) == 0 {
        let image = vec![vec![(0..width * height * 4).map(|at| at as u8 | 3).collect()]];
        let latents = 1 + (frames - 1) / pipeline.compression().latent[0];
        let plan = FramePlan::generated(latents).give(0, 1, SourceFrame { clip: 0, group: 0 }, CLEAN).expect("within the clip");
        let given = GenerateRequest { conditioning: Conditioning::new(image, plan), ..request.clone() };
        // Some models are told one level of noise.
        if pipeline.validate(&given).is_ok() {
            request = given;
        }
    }
    request
}

/// Every other pair of runs has less memory than all that it could use.
pub(crate) fn memory(run: usize, whole: u64, random: &mut Random) -> Option<u64> {
    (run % 4 > 1).then(|| whole * (30 + random.below(70)) / 100)
}
