//! The video autoencoder as a whole, and the batches of frames that are part of its result.

use kinora_kernels::{Plan, Tensor};

use super::{VaeConfig, VaeDecoder, VaeEncoder};
use crate::error::Result;
use crate::models::LatentStats;
use crate::nn::{Carry, Chunk, Weights};

/// Frames that the reference encodes at a time.
const ENCODED_FRAMES: usize = 8;

/// Latent frames that it decodes at a time.
const DECODED_LATENTS: usize = 2;

/// `AutoencoderKLCogVideoX`.
pub struct Vae {
    /// Its configuration.
    pub config: VaeConfig,
    /// Frames to latents.
    pub encoder: VaeEncoder,
    /// Latents to frames.
    pub decoder: VaeDecoder,
    /// What the diffusion model's latents are normalised with; the class itself does not use it.
    pub stats: LatentStats,
}

impl Vae {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let channels = config.latent_channels;
        Ok(Self {
            config: config.clone(),
            encoder: VaeEncoder::load(w, config)?,
            decoder: VaeDecoder::load(w, config)?,
            stats: LatentStats::new(vec![0.0; channels], &vec![1.0; channels], config.scaling_factor),
        })
    }

    /// Frames of the batches that so many are encoded in.
    pub fn encoded_batches(frames: usize) -> Vec<usize> {
        batches(frames, ENCODED_FRAMES)
    }

    /// Latent frames of the batches that so many are decoded in.
    pub fn decoded_batches(latent_frames: usize) -> Vec<usize> {
        batches(latent_frames, DECODED_LATENTS)
    }
}

/// Equal batches, of which the first also has what is left over.
fn batches(frames: usize, size: usize) -> Vec<usize> {
    let mut batches = vec![size; (frames / size).max(1)];
    batches[0] = frames - size * (batches.len() - 1);
    batches
}

/// `record` of a chunk, which is a batch, or of all `batches` of a whole clip, put together again.
pub(super) fn in_batches<'p>(
    plan: &'p Plan,
    x: Tensor<'p>,
    carry: &Carry<'p>,
    batches: fn(usize) -> Vec<usize>,
    record: impl Fn(Tensor<'p>, &Carry<'p>) -> Tensor<'p>,
) -> Tensor<'p> {
    let lengths = x.shape().dims().get(1).map(|frames| batches(*frames)).unwrap_or_default();
    if carry.chunk() != Chunk::Whole || lengths.len() < 2 {
        return record(x, carry);
    }
    let within = Carry::within(plan);
    let (mut start, mut all) = (0, None::<Tensor<'p>>);
    for length in lengths {
        let made = record(x.slice_frames(start, length), &within);
        all = Some(all.map_or(made, |before| before.concat_frames(made)));
        start += length;
        within.advance();
    }
    all.unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_is_in_the_first_batch() {
        assert_eq!(Vae::encoded_batches(49), [9, 8, 8, 8, 8, 8], "as published");
        assert_eq!(Vae::decoded_batches(13), [3, 2, 2, 2, 2, 2], "as published");
        assert_eq!([Vae::encoded_batches(13), Vae::encoded_batches(5), Vae::decoded_batches(1)], [vec![13], vec![5], vec![1]], "one");
        assert_eq!(Vae::decoded_batches(4), [2, 2], "nothing");
    }
}
