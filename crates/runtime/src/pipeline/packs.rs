//! Which requests are computed side by side, known before any of them runs.

use super::VideoPipeline;
use crate::error::Result;
use crate::request::GenerateRequest;
use crate::sampling::guidance::Guidance;
use crate::sampling::packing::{self, Item};
use crate::sampling::schedule::Schedule;
use crate::sampling::solvers::Solver;

impl VideoPipeline {
    /// The packs that [`generate_many`](Self::generate_many) makes of several requests, as their indices: who hands over one pack at
    /// a time has the same clips in the same time, and keeps no more of them than a pack in memory. A request that is made of
    /// windows or cannot be made is a pack of its own.
    pub fn packs(&self, requests: &[GenerateRequest]) -> Vec<Vec<usize>> {
        let (mut places, mut items, mut packs) = (Vec::new(), Vec::new(), Vec::new());
        for (at, request) in requests.iter().enumerate() {
            match self.packable(request) {
                Ok(item) if !self.is_alone(request) => {
                    places.push(at);
                    items.push(item);
                }
                _ => packs.push(vec![at]),
            }
        }
        let packed = packing::pack(&items, packing::MAX_PACKED_TOKENS);
        packs.extend(packed.into_iter().map(|pack| pack.into_iter().map(|at| places[at]).collect()));
        packs.sort();
        packs
    }

    fn packable(&self, request: &GenerateRequest) -> Result<Item> {
        let shape = self.check(request)?;
        let (solver, schedule) = self.schedule(request, &shape)?;
        let [_, height, width] = shape.tokens(self.compression.packing);
        #[cfg_attr(not(feature = "families"), expect(unused_mut, reason = "nothing is given beside the tokens"))]
        let mut tokens = self.token_noise(request, shape)?.len() + request.conditioning.references.len() * height * width;
        #[cfg(feature = "families")]
        self.beside(request)?.iter().for_each(|(own, _)| tokens += own.length * height * width);
        Ok(self.item(tokens, request.guidance, (request.conditioning_scale, request.step_cache), &schedule, solver.as_ref()))
    }

    /// What decides with which others a request of so many tokens is denoised.
    pub(super) fn item(
        &self,
        tokens: usize,
        guidance: Guidance,
        (conditioning_scale, step_cache): (Option<f32>, Option<f32>),
        schedule: &Schedule,
        solver: &dyn Solver,
    ) -> Item {
        let branches = if guidance.is_off() { 1 } else { 2 };
        // Clips of several sizes may pass from one denoiser to the next in different steps, and each has its own that it repeats.
        let most = if self.experts.len() > 1 || step_cache.is_some() { packing::MAX_PACKED_TOKENS + 1 } else { 0 };
        Item {
            tokens: most.max(tokens * branches),
            steps: schedule.num_steps(),
            guided_channels: self.guided_features(guidance),
            conditioning_scale: conditioning_scale.map(f32::to_bits),
            variance: solver.takes_noise().then(|| solver.variance()),
        }
    }

    /// Features of a token that guidance acts on: the latent channel is their outermost axis.
    pub(super) fn guided_features(&self, guidance: Guidance) -> usize {
        let features = self.compression.packing.iter().product::<usize>();
        features * guidance.channels.unwrap_or(self.vae.latent_channels())
    }
}
