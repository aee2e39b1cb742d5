//! What is given of a clip beside its tokens, for a model that is given only its first frames in their places: each image or clip that
//! begins later has tokens of its own, which the clip attends to (`LTXConditionPipeline` of diffusers).

use super::VideoPipeline;
use super::sources::GivenSegment;
use crate::conditioning::{Conditioning, PURE_NOISE, Segment, Timeline};
use crate::error::Result;
use crate::models::family::Beside;
use crate::request::GenerateRequest;
use crate::sampling::{noise, tokens};
use crate::shape::LatentShape;

/// The stream of the noise on the first of them; those of the others are lower.
const STREAM: u64 = u64::MAX - 1;

/// Latent frames with which a clip begins that stand beside; those after them are given in their places.
const PREFIX: usize = 2;

impl VideoPipeline {
    fn is_given_beside(&self) -> bool {
        self.experts[0].denoiser.is_given_beside()
    }

    /// An image that stands beside is encoded alone, and takes the place of no latent frame.
    pub(super) fn take_out(&self, conditioning: &Conditioning, segments: &mut [Segment]) {
        let lengths = conditioning.lengths();
        let is_image = |segment: &&mut Segment| segment.latent_frames.start > 0 && lengths.get(segment.clip) == Some(&1);
        for segment in segments.iter_mut().filter(|_| self.is_given_beside()).filter(is_image) {
            (segment.clip_frames, segment.lead) = (vec![0], 0);
            segment.latent_frames.end = segment.latent_frames.start;
        }
    }

    /// What stands beside is generated in its place.
    pub(super) fn leave_open(&self, conditioning: &Conditioning, noise: &mut [u16]) -> Result<()> {
        let Some(plan) = conditioning.plan.as_ref().filter(|_| self.is_given_beside()) else { return Ok(()) };
        let (lengths, area) = (conditioning.lengths(), noise.len() / plan.frames.len());
        // Whether windows can follow is asked before there are frames, which are the first of each.
        let segments = if lengths.is_empty() { Vec::new() } else { plan.segments(self.compression.latent[0], &lengths)? };
        for Segment { clip, latent_frames, .. } in segments.into_iter().filter(|segment| segment.latent_frames.start > 0) {
            let end = if lengths[clip] == 1 { latent_frames.end } else { latent_frames.start + 1 };
            noise[latent_frames.start * area..end * area].fill(PURE_NOISE);
        }
        Ok(())
    }

    /// Where the tokens that stand beside a clip are, and the thousandths of noise that they get.
    pub(super) fn beside(&self, request: &GenerateRequest) -> Result<Vec<(Beside, u16)>> {
        let Some(plan) = request.conditioning.plan.as_ref().filter(|_| self.is_given_beside()) else { return Ok(Vec::new()) };
        let step = self.compression.latent[0];
        let timeline = Timeline { frames: plan.frames.len(), step };
        let own = |Segment { clip, lead, latent_frames, .. }: Segment| {
            let start = latent_frames.start;
            let own = if latent_frames.is_empty() {
                let span = timeline.span(start);
                let asked = plan.keyframes.iter().find(|key| key.clip == clip && span.contains(&key.frame));
                Beside { frame: asked.map_or(span.start, |key| key.frame), length: 1 }
            } else {
                // With the frame that leads it, which the latent frame before it ends with.
                Beside { frame: step * (start - 1), length: PREFIX.min(lead + latent_frames.len()) }
            };
            (own, plan.frames[start].noise)
        };
        let segments = self.segments(&request.conditioning)?.into_iter();
        Ok(segments.filter(|segment| segment.latent_frames.start > 0).map(own).collect())
    }

    /// Adds the tokens that stand beside those of a clip of `shape`, as noise, and its thousandths on them.
    pub(super) fn add_beside(
        &self,
        request: &GenerateRequest,
        shape: LatentShape,
        values: &mut Vec<f32>,
        thousandths: &mut Vec<u16>,
    ) -> Result<Vec<Beside>> {
        let all = self.beside(request)?;
        for (at, (own, noise)) in all.iter().enumerate() {
            let extents = [shape.channels, own.length, shape.grid[1], shape.grid[2]];
            let fresh = noise::normal(request.seed, STREAM - at as u64, extents.iter().product());
            values.extend(tokens::pack(&fresh, extents, self.compression.packing));
            thousandths.resize(thousandths.len() + extents[1..].iter().product::<usize>(), *noise);
        }
        Ok(all.into_iter().map(|(own, _)| own).collect())
    }

    /// Tokens of what is given beside.
    pub(super) fn sources_beside(&self, given: &[GivenSegment], beside: &[Beside]) -> Vec<f32> {
        let later = given.iter().filter(|given| given.segment.latent_frames.start > 0);
        let own = |(given, own): (&GivenSegment, &Beside)| {
            let [frames, height, width] = given.shape.grid;
            let part = given.latents.chunks_exact(frames * height * width).flat_map(|channel| &channel[..own.length * height * width]);
            let extents = [given.shape.channels, own.length, height, width];
            tokens::pack(&part.copied().collect::<Vec<f32>>(), extents, self.compression.packing)
        };
        later.zip(beside).flat_map(own).collect()
    }
}
