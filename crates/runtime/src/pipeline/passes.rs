//! Passes of denoising after the first: a model's latent stages make more of its latents, which are then denoised once more from
//! some of the noise, before anything is decoded.

use super::VideoPipeline;
use crate::models::family::Doubles;
use crate::request::GenerateRequest;
use crate::shape::LatentShape;
#[cfg(feature = "families")]
use crate::{
    error::{Error, Result},
    events::Event,
    executables::Key,
    models::family::LatentStage,
    pipeline::{job::Job, refine::asked},
    sampling::{
        denoise::{Denoise, StepDone},
        noise,
        solvers::table::Point,
        tokens::{channels_first, channels_last},
    },
};
#[cfg(feature = "families")]
use kinora_kernels::{Cadence, CancelToken, Device, Graph, Plan};

/// What the seed of a pass differs by from that of the one before: the golden ratio as a 64-bit fraction.
#[cfg(feature = "families")]
const NEXT_PASS: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(feature = "families")]
impl VideoPipeline {
    /// The stages that make more of the latents of `request`. What is given may be there in another size but at no other frames, and
    /// windows give frames to each other: such clips are refined once they are finished.
    fn latent_stages<'a>(&'a self, request: &'a GenerateRequest) -> impl Iterator<Item = &'a dyn LatentStage> + use<'a> {
        let is_whole = request.long.is_none() && !self.goes_on_alone();
        let is_given = request.conditioning.plan.is_some();
        let can = move |doubles| is_whole && (!is_given || (doubles == Doubles::Pixels && request.conditioning.has_larger()));
        let stages = self.refiners.latent_stages.as_slice();
        let stage = move |doubles| stages.iter().map(AsRef::as_ref).find(|stage| stage.doubles() == doubles && can(doubles));
        asked(request).filter_map(stage)
    }

    /// The job and the latents of the last pass, if there is one after the first, which left `latents` of `job`.
    pub(super) async fn later_passes(
        &self,
        request: &GenerateRequest,
        job: &Job,
        mut latents: Vec<f32>,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<(Option<Job>, Vec<f32>)> {
        let (mut done, mut last): (usize, Option<Job>) = (self.job_item(job).steps, None);
        let steps = done + self.later_steps(request);
        for stage in self.latent_stages(request) {
            let before = last.as_ref().unwrap_or(job);
            let larger = self.enlarged(stage, &latents, before.shape, cancel).await?;
            let (own, mut pass) = self.next_pass(request, stage, before, &larger)?;
            self.give(&own, None, &mut pass, cancel).await?;
            let on_step = &mut async |StepDone { step, reused, .. }: StepDone| {
                on_event(Event::Step { step: done + step, steps, reused, preview: None });
                Ok(())
            };
            latents = self.denoise(&[&pass], 0, cancel, on_step).await?.remove(0)?;
            done += stage.sigmas().len();
            last = Some(pass);
        }
        Ok((last, latents))
    }

    /// The request and the job of another pass, over more of the latents that the one before left: from the first of its levels down, with
    /// nothing given yet.
    pub(super) fn next_pass(
        &self,
        request: &GenerateRequest,
        stage: &dyn LatentStage,
        before: &Job,
        larger: &[f32],
    ) -> Result<(GenerateRequest, Job)> {
        let shape = stage.doubles().of(before.shape);
        let mut own = GenerateRequest {
            // Noise of its own: equal values would lie where they were in the smaller latents.
            seed: before.seed ^ NEXT_PASS,
            sigmas: Some(stage.sigmas().to_vec()),
            // Its few steps begin at low noise.
            step_cache: None,
            conditioning: request.conditioning.larger.as_deref().cloned().unwrap_or_default(),
            ..request.clone()
        };
        let schedule = self.schedule(&own, &shape)?.1;
        let from = schedule.intervals.first().map_or(Point::CLEAN, |first| first.from);
        let noisy = |(noise, x): (f32, &f32)| (from.sigma as f32 * noise + from.alpha as f32 * x) / schedule.start as f32;
        own.latents = Some(noise::normal(own.seed, 0, shape.elements()).into_iter().zip(larger).map(noisy).collect());
        let mut job = self.job(&own, shape, before.texts().clone())?;
        job.fps = if stage.doubles() == Doubles::Frames { 2.0 * before.fps } else { before.fps };
        job.pictures.clone_from(&before.pictures);
        Ok((own, job))
    }

    /// Normalised latents `[1, C, F, H, W]` to more of them.
    async fn enlarged(&self, stage: &dyn LatentStage, latents: &[f32], shape: LatentShape, cancel: &CancelToken) -> Result<Vec<f32>> {
        let key = Key::Enlarge(stage.doubles(), shape);
        let enlarge = async |device: &Device| {
            let mut exec = self.executables.take(key.clone(), device, cancel, || self.enlarge_plan(stage, shape))?;
            exec.write("latents", &channels_last(latents, shape.extents()))?;
            exec.run().await?;
            let made = (exec.read("smaller").await?, exec.read("larger").await?);
            if made.1.iter().any(|v| !v.is_finite()) {
                exec.find_non_finite().await?;
                return Err(Error::NonFinite { at: "larger latents".into(), count: 1, total: made.1.len() });
            }
            self.executables.keep(exec);
            Ok(made)
        };
        let (smaller, mut larger) = self.on_device(enlarge).await?;
        stage.settle(&mut larger, &smaller);
        self.vae.stats().normalize(&mut larger);
        Ok(channels_first(&larger, stage.doubles().of(shape).extents()))
    }

    /// The plan from `latents [1, F, H, W, C]` to those of the autoencoder, `smaller`, and to `larger`.
    fn enlarge_plan(&self, stage: &dyn LatentStage, shape: LatentShape) -> Result<Graph> {
        let ([f, h, w], plan) = (shape.grid, Plan::new());
        let latents = plan.input("latents", &[1, f, h, w, shape.channels], Cadence::Once);
        let smaller = self.vae.stats().denormalize(&plan, latents);
        plan.output("smaller", smaller);
        plan.output("larger", plan.scope("latent_upsampler", || stage.record(&plan, smaller)));
        Ok(plan.finish()?)
    }

    /// The plans of the passes after the first, and how often each runs.
    pub(super) fn later_plans(&self, request: &GenerateRequest, first: &Job) -> Result<Vec<(usize, Key, Graph)>> {
        let (mut plans, mut last): (Vec<_>, Option<Job>) = (Vec::new(), None);
        for stage in self.latent_stages(request) {
            let before = last.as_ref().unwrap_or(first);
            plans.push((1, Key::Enlarge(stage.doubles(), before.shape), self.enlarge_plan(stage, before.shape)?));
            let (_, pass) = self.next_pass(request, stage, before, &vec![0.0; stage.doubles().of(before.shape).elements()])?;
            let (sequences, guided_channels) = ([pass.sequence()], self.guided_channels(&pass));
            let (experts, spacing) = (self.experts.as_slice(), self.job_spacing(&pass));
            let sequences = sequences.as_slice();
            let denoise =
                Denoise { experts, sequences, spacing, guided_channels, conditioning_scale: None, step_cache: None, predict_every: 0 };
            plans.extend(denoise.stages()?.into_iter().map(|(key, graph)| (stage.sigmas().len(), key, graph)));
            last = Some(pass);
        }
        Ok(plans)
    }
}

impl VideoPipeline {
    /// Steps of the passes after the first.
    pub(super) fn later_steps(&self, request: &GenerateRequest) -> usize {
        #[cfg(feature = "families")]
        return self.latent_stages(request).map(|stage| stage.sigmas().len()).sum();
        #[cfg(not(feature = "families"))]
        {
            let _ = request;
            0
        }
    }

    /// Whether `request` has more of this in its latents already.
    pub(crate) fn is_in_latents(&self, request: &GenerateRequest, doubles: Doubles) -> bool {
        #[cfg(feature = "families")]
        return self.latent_stages(request).any(|stage| stage.doubles() == doubles);
        #[cfg(not(feature = "families"))]
        {
            let _ = (request, doubles);
            false
        }
    }

    /// The latents that are decoded of a clip whose first pass has latents of `shape`.
    pub(super) fn decoded_shape(&self, request: &GenerateRequest, shape: LatentShape) -> LatentShape {
        #[cfg(feature = "families")]
        return self.latent_stages(request).fold(shape, |shape, stage| stage.doubles().of(shape));
        #[cfg(not(feature = "families"))]
        {
            let _ = request;
            shape
        }
    }

    /// Frames, height and width of what is decoded for a clip of so many frames.
    pub(super) fn decoded_extents(&self, request: &GenerateRequest, frames: usize) -> [usize; 3] {
        let doubled = |doubles| if self.is_in_latents(request, doubles) { 2 } else { 1 };
        let (longer, larger) = (doubled(Doubles::Frames), doubled(Doubles::Pixels));
        [longer * (frames - 1) + 1, larger * request.height, larger * request.width]
    }
}
