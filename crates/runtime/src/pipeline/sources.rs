//! What a plan of latent frames gives: sources encoded segment by segment, and put back into the finished clip.

use kinora_kernels::{CancelToken, Device};

use super::job::Job;
use super::{Generated, VideoPipeline};
use crate::conditioning::{Conditioning, Segment, Timeline};
use crate::error::Result;
use crate::models::family::Direction;
use crate::request::GenerateRequest;
use crate::sampling::{noise, tokens};
use crate::shape::LatentShape;

/// A segment of the sources as the autoencoder sees it.
pub(super) struct GivenSegment {
    pub(super) segment: Segment,
    /// `[1, C, F, H, W]`, the lead included.
    pub(super) latents: Vec<f32>,
    pub(super) shape: LatentShape,
}

impl GivenSegment {
    /// Replaces what was encoded by the last of the latents it was decoded from, `[1, C, F, H, W]` of `shape`: decoding and
    /// encoding again loses detail, and would lose more with each window. The first latent frame, which stands for a single
    /// frame here, has no counterpart among them.
    pub(super) fn take_over(&mut self, latents: &[f32], shape: LatentShape) {
        let area = shape.grid[1] * shape.grid[2];
        let [own, all] = [self.shape.grid[0] * area, shape.grid[0] * area];
        for (to, from) in self.latents.chunks_exact_mut(own).zip(latents.chunks_exact(all)) {
            to[area..].copy_from_slice(&from[all - own + area..]);
        }
    }
}

impl VideoPipeline {
    /// What is encoded of the sources.
    pub(super) fn segments(&self, conditioning: &Conditioning) -> Result<Vec<Segment>> {
        let Some(plan) = &conditioning.plan else { return Ok(Vec::new()) };
        #[cfg_attr(not(feature = "families"), expect(unused_mut, reason = "nothing is given beside the tokens"))]
        let mut segments = plan.segments(self.compression.latent[0], &conditioning.lengths())?;
        #[cfg(feature = "families")]
        self.take_out(conditioning, &mut segments);
        Ok(segments)
    }

    /// What the plan gives, encoded segment by segment.
    pub(super) async fn encode_sources(
        &self,
        request: &GenerateRequest,
        shape: LatentShape,
        cancel: &CancelToken,
    ) -> Result<Vec<GivenSegment>> {
        let conditioning = &request.conditioning;
        let mut given = Vec::new();
        for segment in self.segments(conditioning)? {
            let source: Vec<&[u8]> = segment.clip_frames.iter().map(|i| conditioning.sources[segment.clip][*i].as_slice()).collect();
            let frames = segment.encoded_frames();
            let own = LatentShape { channels: shape.channels, grid: [frames, shape.grid[1], shape.grid[2]] };
            let encode = async |device: &Device| self.coder(Direction::Encode, device).encode(&source, own, cancel).await;
            let latents = self.on_device(encode).await?;
            given.push(GivenSegment { segment, latents, shape: own });
        }
        Ok(given)
    }

    /// Puts what `request` is given in its place among the tokens of `job`, under its share of their noise.
    pub(super) async fn give(
        &self,
        request: &GenerateRequest,
        before: Option<&Generated>,
        job: &mut Job,
        cancel: &CancelToken,
    ) -> Result<()> {
        if request.conditioning.plan.is_none() {
            return Ok(());
        }
        let shape = job.shape;
        job.given = self.encode_sources(request, shape, cancel).await?;
        if let (Some(before), Some(given)) = (before, job.given.first_mut()) {
            given.take_over(&before.latents, shape);
        }
        let sources = planned_latents(&job.given, shape);
        #[cfg_attr(not(feature = "families"), expect(unused_mut, reason = "nothing is given beside the tokens"))]
        let mut sources = tokens::pack(&sources, shape.extents(), self.compression.packing);
        #[cfg(feature = "families")]
        sources.extend(self.sources_beside(&job.given, &job.beside));
        noise::add_sources(&mut job.tokens, &sources, &job.noise, |thousandths| job.schedule.starting_level(thousandths));
        Ok(())
    }

    /// Puts frames that are kept in the place of what was decoded for them. A decoder that is not causal draws every frame
    /// with its neighbours in view, so that generated ones would change those that are given; these are decoded alone.
    pub(super) async fn restore(
        &self,
        conditioning: &Conditioning,
        job: &Job,
        decoded: &mut [Vec<u8>],
        cancel: &CancelToken,
    ) -> Result<()> {
        let Some(plan) = conditioning.plan.as_ref().filter(|_| conditioning.mask.is_none()) else { return Ok(()) };
        let timeline = Timeline { frames: job.shape.grid[0], step: self.compression.latent[0] };
        for GivenSegment { segment, latents, shape } in &job.given {
            if segment.is_kept(plan) {
                let own = self.decode(latents, *shape, cancel).await?;
                let first = timeline.span(segment.latent_frames.start).start;
                // The lead is one latent frame, hence one frame.
                for (place, frame) in decoded[first..].iter_mut().zip(own.into_iter().skip(segment.lead)) {
                    *place = frame;
                }
            }
        }
        Ok(())
    }
}

/// Latents `[1, C, F, H, W]` of a plan with what is given in its place, 0 elsewhere.
pub(super) fn planned_latents(given: &[GivenSegment], shape: LatentShape) -> Vec<f32> {
    let [frames, height, width] = shape.grid;
    let area = height * width;
    let mut latents = vec![0.0; shape.elements()];
    for GivenSegment { segment, latents: own, shape: own_shape } in given {
        let count = segment.latent_frames.len() * area;
        for channel in 0..shape.channels {
            let from = (channel * own_shape.grid[0] + segment.lead) * area;
            let to = (channel * frames + segment.latent_frames.start) * area;
            latents[to..to + count].copy_from_slice(&own[from..from + count]);
        }
    }
    latents
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latents of two channels, numbered by channel, frame and pixel.
    fn latents(frames: usize, sign: f32) -> Vec<f32> {
        let value = |c: usize, t: usize, at: usize| sign * (100 * c + 10 * t + at) as f32;
        (0..2).flat_map(|c| (0..frames).flat_map(move |t| (0..2).map(move |at| value(c, t, at)))).collect()
    }

    fn shape(frames: usize) -> LatentShape {
        LatentShape { channels: 2, grid: [frames, 1, 2] }
    }

    fn given(frames: usize, lead: usize, latent_frames: std::ops::Range<usize>) -> GivenSegment {
        let segment = Segment { clip: 0, clip_frames: Vec::new(), lead, latent_frames };
        GivenSegment { segment, latents: latents(frames, -1.0), shape: shape(frames) }
    }

    #[test]
    fn windows_take_over_all_latents_but_the_first() {
        let mut given = given(3, 0, 0..3);
        given.take_over(&latents(5, 1.0), shape(5));
        let expected = [0.0, -1.0, 30.0, 31.0, 40.0, 41.0, -100.0, -101.0, 130.0, 131.0, 140.0, 141.0];
        assert_eq!(given.latents, expected, "frames 3 and 4 of both channels");
    }

    #[test]
    fn given_latents_stand_where_the_plan_says() {
        let found = planned_latents(&[given(1, 0, 0..1), given(2, 1, 3..4)], shape(4));
        let expected = [0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -10.0, -11.0, -100.0, -101.0, 0.0, 0.0, 0.0, 0.0, -110.0, -111.0];
        assert_eq!(found, expected, "the first frame, and the last without its lead");
    }
}
