//! The autoencoder at work: what it is given at once, and running it piece by piece.

use std::ops::Range;

use kinora_kernels::{CancelToken, Device, Graph};

use crate::error::Result;
use crate::executables::{Executables, Key, Lease};
use crate::layout::{Budget, Chosen, Piece, choose};
use crate::models::family::{Autoencoder, Direction};
use crate::shape::LatentShape;

/// An autoencoder with what it runs on.
#[derive(Clone, Copy)]
pub struct Coder<'a> {
    /// The model.
    pub vae: &'a dyn Autoencoder,
    /// Where it runs.
    pub device: &'a Device,
    /// What is ready to run.
    pub executables: &'a Executables,
    /// What it may take.
    pub budget: Budget,
}

/// What a direction and a size take, and in how many parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoderMemory {
    /// Bytes on the device but for weights.
    pub value_bytes: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Chunks or windows of time.
    pub pieces: usize,
    /// Tiles of space.
    pub tiles: usize,
}

impl Coder<'_> {
    /// What is given at once of latents of `shape`, and the plans for it.
    ///
    /// # Errors
    /// [`Error::Kernels`](crate::Error::Kernels) if not even the smallest pieces fit the device, or a weight does not.
    pub(super) fn choose(&self, direction: Direction, shape: LatentShape) -> Result<Chosen> {
        let record = |piece: Piece| match direction {
            Direction::Encode => self.encode_plan(piece),
            Direction::Decode => self.decode_plan(shape.channels, piece),
        };
        let chosen = choose(self.vae, direction, shape, self.budget, &|graph: &Graph| self.device.check_limits(graph), &record)?;
        // All pieces have the same.
        chosen.graphs.iter().try_for_each(|graph| self.device.check_weights(graph))?;
        Ok(chosen)
    }

    /// What coding latents of `shape` takes; known without running anything.
    ///
    /// # Errors
    /// [`Error::Kernels`](crate::Error::Kernels) if not even the smallest pieces fit the device, or a weight does not.
    pub fn memory(&self, direction: Direction, shape: LatentShape) -> Result<CoderMemory> {
        let Chosen { layout, value_bytes, weight_bytes, .. } = self.choose(direction, shape)?;
        Ok(CoderMemory { value_bytes, weight_bytes, pieces: layout.order().len(), tiles: layout.tiles() })
    }

    /// Fails if latents of `shape` cannot be decoded here; known without running anything.
    ///
    /// # Errors
    /// As [`choose`](Self::choose).
    pub(super) fn check_decode(&self, shape: LatentShape) -> Result<()> {
        if self.executables.has(&Key::Decode(shape)) { Ok(()) } else { self.choose(Direction::Decode, shape).map(drop) }
    }

    /// The executables of a direction and a size.
    pub(super) fn take(&self, direction: Direction, shape: LatentShape, cancel: &CancelToken) -> Result<Lease> {
        let key = match direction {
            Direction::Encode => Key::Encode(shape),
            Direction::Decode => Key::Decode(shape),
        };
        self.executables.take_pieces(key, self.device, cancel, || self.choose(direction, shape))
    }

    /// Pixels of rows and columns of latents.
    pub(super) fn pixels(&self, rows: usize, columns: usize) -> [usize; 2] {
        let [_, height, width] = self.vae.compression();
        [rows * height, columns * width]
    }
}

/// A part of latents `[C, F, H, W]`, channels last: `[F', H', W', C]`.
pub(super) fn part(latents: &[f32], [channels, f, h, w]: [usize; 4], [frames, rows, columns]: [Range<usize>; 3]) -> Vec<f32> {
    let size = frames.len() * rows.len() * columns.len() * channels;
    let mut out = Vec::with_capacity(size);
    for t in frames {
        for y in rows.clone() {
            for x in columns.clone() {
                out.extend((0..channels).map(|c| latents[((c * f + t) * h + y) * w + x]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_latents_has_its_channels_last() {
        let latents: Vec<f32> = (0..2 * 2 * 2 * 3).map(|v| v as f32).collect();
        assert_eq!(part(&latents, [2, 2, 2, 3], [1..2, 0..2, 1..3]), [7.0, 19.0, 8.0, 20.0, 10.0, 22.0, 11.0, 23.0]);
    }
}
