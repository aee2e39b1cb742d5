//! Clips of a [causal](crate::models::causal) denoiser: block after block, each decoded and handed over before the next one is made,
//! for as long as is wanted. Memory does not grow with the clip.

use std::cell::Cell;

use kinora_kernels::{CancelToken, Device};

use super::coder::Coder;
use super::decode::Stream;
use super::text::Texts;
use super::{Generated, Made, VideoPipeline};
use crate::conditioning::{CLEAN, Joints, PURE_NOISE, Windows};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::models::causal::Causal;
use crate::models::family::{Direction, Split};
use crate::request::GenerateRequest;
use crate::sampling::denoise::rollout::{Branches, Rollout, Running, Words};
use crate::sampling::schedule::Schedule;
use crate::sampling::solvers::Solver;
use crate::sampling::{noise, tokens};
use crate::shape::LatentShape;

/// The part of a stream's number that is for the steps of a block.
const STEP_BITS: u32 = 16;

/// How each block goes from noise to clean.
pub(super) struct BlockSchedules {
    solver: Box<dyn Solver>,
    first: Schedule,
    later: Schedule,
}

/// Latents of a clip `[C, F, H, W]`.
struct Latents<'a> {
    values: &'a [f32],
    shape: LatentShape,
}

impl Latents<'_> {
    /// Copies those of its frames from `start` on that it has into a block `[C, b, H, W]`.
    fn copy_into(&self, block: &mut [f32], start: usize) {
        let [frames, height, width] = self.shape.grid;
        let (area, channels) = (height * width, self.shape.channels);
        let of_channel = block.len() / channels;
        let count = (of_channel / area).min(frames.saturating_sub(start)) * area;
        for (to, from) in block.chunks_exact_mut(of_channel).zip(self.values.chunks_exact(frames * area)) {
            to[..count].copy_from_slice(&from[(start * area).min(from.len())..][..count]);
        }
    }
}

impl VideoPipeline {
    /// What the blocks of a request go through.
    pub(super) fn block_schedules(&self, request: &GenerateRequest, shape: LatentShape, causal: Causal) -> Result<BlockSchedules> {
        let (solver, later) = self.schedule(request, &shape)?;
        let more = causal.first_steps.filter(|steps| request.sigmas.is_none() && *steps > request.steps);
        let first = match more {
            Some(steps) => self.schedule(&GenerateRequest { steps, ..request.clone() }, &shape)?.1,
            None => later.clone(),
        };
        Ok(BlockSchedules { solver, first, later })
    }

    /// The blocks of clips of this height and width, under texts of this length.
    pub(super) fn rollout<'a>(
        &'a self,
        request: &GenerateRequest,
        schedules: &'a BlockSchedules,
        shape: LatentShape,
        texts: &Texts,
    ) -> Option<Rollout<'a>> {
        let [_, height, width] = shape.tokens(self.compression.packing);
        let BlockSchedules { solver, first, later } = schedules;
        let denoiser = self.experts[0].denoiser.as_ref();
        let text_rows = branches(texts).iter().map(|states| states.len() / denoiser.text_channels()).collect();
        let branches = Branches { text_rows, guided_channels: self.guided_features(request.guidance) };
        Rollout::new(denoiser, solver.as_ref(), [first, later], [height, width], branches, self.spacing())
    }

    /// Refuses what blocks cannot be made with.
    pub(super) fn check_blocks(&self, request: &GenerateRequest) -> Result<()> {
        let refused = |parameter: &str, found: f32, expected: &str| {
            Err(Error::InvalidRequest { parameter: parameter.into(), found: found.to_string(), expected: expected.into() })
        };
        if let Some(threshold) = request.step_cache {
            return refused("stepCache", threshold, "none: blocks have too few steps to resemble each other");
        }
        if request.guidance.is_off() || request.guidance.rescale == 0.0 {
            return Ok(());
        }
        refused("guidanceRescale", request.guidance.rescale, "0: a block has no deviation of a whole clip")
    }

    /// Refuses given frames that are not whole blocks at the start; `noise` is that on each token.
    pub(super) fn check_given_blocks(&self, causal: Causal, noise: &[u16], shape: LatentShape) -> Result<()> {
        let [_, height, width] = shape.tokens(self.compression.packing);
        let given = noise.iter().take_while(|noise| **noise == CLEAN).count();
        let block = causal.block_frames * height * width;
        if given % block == 0 && noise[given..].iter().all(|noise| *noise == PURE_NOISE) {
            return Ok(());
        }
        let expected = format!("whole blocks of {} latent frames at the start of the clip, and nothing else", causal.block_frames);
        let found = format!("{given} of {} tokens at the start", noise.len());
        let remedy = if causal.block_frames == 1 {
            "give a first image, or a clip that goes on"
        } else {
            "give a clip that goes on, whose overlap is whole blocks, or use a model that goes frame by frame"
        };
        Err(Error::InvalidConditioning { parameter: "given frames".into(), found, expected, remedy })
    }

    /// Whether its frames can be handed over while it is made.
    pub(super) fn is_streamed(&self, request: &GenerateRequest) -> bool {
        let decoder = self.decoder.as_ref().unwrap_or(&self.vae);
        let joins = request.conditioning.plan.as_ref().is_some_and(|plan| plan.joints != Joints::default());
        !joins && !self.is_refined(request) && decoder.split(Direction::Decode, 2) == Split::Chunks(vec![1, 1])
    }

    /// [`generate_frames`](Self::generate_frames) block by block.
    pub(super) async fn generate_blocks(
        &self,
        request: &GenerateRequest,
        causal: Causal,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
        sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Generated> {
        let (shape, is_streamed) = (self.check(request)?, self.is_streamed(request));
        let long = request.long.as_ref();
        let total = long.map_or(Some(request.frames), |long| long.clip_frames);
        if long.is_some() && !is_streamed {
            let found = "a long clip that continues another, is refined, or whose decoder needs all of it".into();
            return Err(Error::InvalidRequest { parameter: "frames".into(), found, expected: format!("at most {}", request.frames) });
        }
        let scenes: &[String] = long.map_or(&[], |long| &long.scenes);
        let prompts = if scenes.is_empty() { std::slice::from_ref(&request.prompt) } else { scenes };
        let own: Vec<GenerateRequest> =
            prompts.iter().map(|prompt| GenerateRequest { prompt: prompt.clone(), ..request.clone() }).collect();
        let tell = &mut |at, event| {
            if at == 0 {
                on_event(event);
            }
        };
        let texts = self.encode_texts(&own.iter().collect::<Vec<_>>(), cancel, tell).await?;
        let first = texts.first().cloned().unwrap_or_default();
        let schedules = self.block_schedules(request, shape, causal)?;
        let none =
            || Error::InvalidRequest { parameter: "model".into(), found: "a denoiser of whole clips".into(), expected: "blocks".into() };
        let rollout = self.rollout(request, &schedules, shape, &first).ok_or_else(none)?;
        let job = self.prepare(request, None, first, cancel).await?;
        let step = self.compression.latent[0];
        let block = causal.block_frames;
        let latent_frames = total.map(|frames| 1 + (frames - 1).div_ceil(step));
        let blocks = Blocks {
            request,
            rollout,
            texts: &texts,
            known: Latents { values: &job.given_latents(), shape },
            given: request.conditioning.plan.as_ref().map_or(0, |plan| plan.frames.iter().take_while(|f| f.noise == CLEAN).count()),
            own: LatentShape { grid: [block, shape.grid[1], shape.grid[2]], ..shape },
            total,
            latent_frames,
            count: latent_frames.map(|frames| frames.div_ceil(block)),
            is_streamed,
        };
        let (mut made, done) = (Progress::default(), Cell::new(0));
        let mut go_on = async |device: &Device| {
            let end = self.go_through(device, &blocks, &mut made, cancel, on_event, sink).await;
            done.set(made.blocks.len() + made.handed);
            end
        };
        // What a clip without an end began with is not there any more.
        if total.is_some() {
            self.going_on(&done, go_on).await?;
        } else {
            go_on(&self.device()).await?;
        }
        let frames = latent_frames.unwrap_or(made.blocks.len() * block);
        let made_shape = LatentShape { grid: [frames, shape.grid[1], shape.grid[2]], ..shape };
        let latents = joined(&made.blocks, blocks.own, frames);
        if is_streamed {
            return Ok(Generated { latents_shape: made_shape.dims(), ..self.made(&job, Vec::new(), 0..made.handed, latents) });
        }
        let frames = &mut async |made| if let Made::Frame(frame) = made { sink(frame).await } else { Ok(()) };
        self.finish(request, &job, latents, cancel, on_event, frames).await
    }

    /// Goes through the blocks of a clip: those that were made before their device was lost only leave again what they left on it.
    async fn go_through(
        &self,
        device: &Device,
        blocks: &Blocks<'_>,
        made: &mut Progress,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
        sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let Blocks { request, rollout, texts, own, total, count, latent_frames, .. } = blocks;
        let (coder, block, packing) = (self.coder(Direction::Decode, device), own.grid[0], self.compression.packing);
        let mut stream = if blocks.is_streamed { Some((coder.stream(blocks.known.shape, cancel)?, 0)) } else { None };
        let mut running = rollout.start((device, &self.executables), cancel)?;
        for at in 0.. {
            if count.is_some_and(|count| at == count) {
                break;
            }
            // Without an end each scene lasts as long as a clip does otherwise.
            let scene = Windows::scene(if count.is_some() { at } else { at * block / blocks.known.shape.grid[0] }, *count, texts.len());
            let words = Words { texts: &branches(&texts[scene]), guidance: request.guidance };
            let latents = if let Some(latents) = made.blocks.get(at) {
                rollout.give(&mut running, &words, &tokens::pack(latents, own.extents(), packing)).await?;
                latents.clone()
            } else {
                let latents = if at * block < blocks.given {
                    let mut latents = vec![0.0; own.elements()];
                    blocks.known.copy_into(&mut latents, at * block);
                    rollout.give(&mut running, &words, &tokens::pack(&latents, own.extents(), packing)).await?;
                    latents
                } else {
                    match self.make_block(blocks, &mut running, &words, at, on_event).await {
                        // That is how a clip without an end ends.
                        Err(Error::Cancelled) if count.is_none() => break,
                        latents => latents?,
                    }
                };
                if count.is_none() {
                    made.blocks.clear();
                }
                made.blocks.push(latents.clone());
                latents
            };
            let Some((stream, decoded)) = &mut stream else { continue };
            if count.is_some_and(|count| at + 1 == count) {
                on_event(Event::Decode { frames: total.unwrap_or_default() });
            }
            let wanted = latent_frames.map_or(block, |frames| block.min(frames - at * block));
            let handed = hand_over(coder, stream, (&latents, *own, wanted), (decoded, &mut made.handed, *total), sink).await;
            match handed {
                Err(Error::Cancelled) if count.is_none() => break,
                handed => handed?,
            }
        }
        running.end(&self.executables);
        if let Some((stream, _)) = stream {
            stream.end(&self.executables);
        }
        Ok(())
    }

    /// The latents of block `at`, made from noise.
    async fn make_block(
        &self,
        blocks: &Blocks<'_>,
        running: &mut Running,
        words: &Words<'_>,
        at: usize,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Vec<f32>> {
        let Blocks { request, rollout, own, count, .. } = blocks;
        // Streams of their own for every block and step, whatever the length of the clip.
        let number = |step: usize| (at as u64) << STEP_BITS | step as u64;
        let mut latents = noise::normal(request.seed, number(0), own.elements());
        if let Some(values) = &request.latents {
            Latents { values, shape: blocks.known.shape }.copy_into(&mut latents, at * own.grid[0]);
        }
        let start = tokens::pack(&latents, own.extents(), self.compression.packing);
        let fresh = &mut |step: usize| noise::normal(request.seed, 1 << 63 | number(step), start.len());
        let until = |at: usize| if at == 0 { 0 } else { rollout.steps(true) + (at - 1) * rollout.steps(false) };
        let done = count.map_or([0, rollout.steps(at == 0)], |count| [until(at), until(count)]);
        let on_step = &mut async |step| {
            on_event(Event::Step { step: done[0] + step, steps: done[1], reused: false, preview: None });
            Ok(())
        };
        let clean = rollout.block(running, words, &start, fresh, on_step).await?;
        Ok(tokens::unpack(&clean, own.extents(), self.compression.packing))
    }
}

/// A clip in blocks.
struct Blocks<'a> {
    request: &'a GenerateRequest,
    rollout: Rollout<'a>,
    /// Those of each scene.
    texts: &'a [Texts],
    /// What is given: the first so many latent frames.
    known: Latents<'a>,
    given: usize,
    /// A block.
    own: LatentShape,
    /// Frames, latent frames and blocks, if it has an end.
    total: Option<usize>,
    latent_frames: Option<usize>,
    count: Option<usize>,
    is_streamed: bool,
}

/// What is done of a clip, in the memory of the host.
#[derive(Default)]
struct Progress {
    /// Latents of its blocks; of a clip without an end those of the last one.
    blocks: Vec<Vec<f32>>,
    /// Frames that were handed over.
    handed: usize,
}

/// The texts of the branches.
fn branches(texts: &Texts) -> Vec<&[f32]> {
    [Some(&texts.prompt), texts.negative.as_ref()].into_iter().flatten().map(Vec::as_slice).collect()
}

/// Decodes `wanted` latent frames of a block and hands over their frames, up to the end of the clip, but for those that were handed over
/// before.
async fn hand_over(
    coder: Coder<'_>,
    stream: &mut Stream,
    (latents, shape, wanted): (&[f32], LatentShape, usize),
    (decoded, handed, total): (&mut usize, &mut usize, Option<usize>),
    sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>,
) -> Result<()> {
    for frame in 0..wanted {
        for pixels in coder.next(stream, latents, shape, frame).await? {
            *decoded += 1;
            if *decoded > *handed && total.is_none_or(|total| *handed < total) {
                sink(pixels).await?;
                *handed += 1;
            }
        }
    }
    Ok(())
}

/// Blocks `[C, b, H, W]` one after another, of which the first so many frames are taken: `[C, F, H, W]`.
fn joined(blocks: &[Vec<f32>], shape: LatentShape, frames: usize) -> Vec<f32> {
    let [block, height, width] = shape.grid;
    let area = height * width;
    let frame = |channel: usize, at: usize| &blocks[at / block][(channel * block + at % block) * area..][..area];
    (0..shape.channels).flat_map(|channel| (0..frames).flat_map(move |at| frame(channel, at))).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_from_clips_and_joined_to_them() {
        let shape = LatentShape { channels: 2, grid: [5, 1, 2] };
        let values: Vec<f32> = (0..20).map(|v| v as f32).collect();
        let cut = |start| {
            let mut block = vec![-1.0; 2 * 2 * 2];
            Latents { values: &values, shape }.copy_into(&mut block, start);
            block
        };
        assert_eq!(cut(2), [4.0, 5.0, 6.0, 7.0, 14.0, 15.0, 16.0, 17.0], "frames 2 and 3 of both channels");
        assert_eq!(cut(4), [8.0, 9.0, -1.0, -1.0, 18.0, 19.0, -1.0, -1.0], "the clip has one frame more");
        let own = LatentShape { grid: [2, 1, 2], ..shape };
        assert_eq!(joined(&[cut(0), cut(2), cut(4)], own, 5), values, "without what is beyond the end");
    }
}
