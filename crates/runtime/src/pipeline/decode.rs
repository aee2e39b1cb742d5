//! Latents to frames: the last stage of a generation.

use std::ops::Range;

use kinora_kernels::{Cadence, CancelToken, Executable, Graph, Plan};

use super::blend::{Place, fade_frames, place_columns, place_rows};
use super::coder::{Coder, part};
use crate::error::{Error, Result};
use crate::executables::Lease;
use crate::layout::{Layout, Piece, Time};
use crate::models::family::Direction;
use crate::nn::Carry;
use crate::shape::LatentShape;
#[cfg(feature = "families")]
use crate::{
    executables::Key,
    layout::{Budget, Chosen},
};

/// Pieces of a tile in their order: the index of the plan, and the latent frames.
type Order = [(usize, Range<usize>)];

/// Normalised latents `[1, C, F, H, W]` that are being decoded.
struct Decoding<'a> {
    coder: Coder<'a>,
    latents: &'a [f32],
    shape: LatentShape,
    layout: &'a Layout,
}

impl Coder<'_> {
    /// The plan of a piece, from `latents [1, F, H, W, C]` to `rgba [F', H'·W']`.
    ///
    /// # Errors
    /// [`Error::Kernels`] for latents the decoder cannot take.
    pub(super) fn decode_plan(&self, channels: usize, piece: Piece) -> Result<Graph> {
        let [f, h, w] = piece.grid;
        let plan = Plan::new();
        // States change with every run; what comes before them must not be kept for another one.
        let z = plan.input("latents", &[1, f, h, w, channels], Cadence::EveryStep);
        let carry = Carry::states(&plan, piece.chunk);
        let pixels = plan.scope("decoder", || self.vae.record_decode(&plan, self.vae.stats().denormalize(&plan, z), &carry));
        let &[_, frames, height, width, colours] = pixels.shape().dims() else {
            return Err(Error::InvalidConfig { file: "vae".into(), problem: format!("the decoder makes {}", pixels.shape()) });
        };
        plan.output("rgba", pixels.reshape(&[frames, height, width, colours]).rgba());
        Ok(plan.finish()?)
    }

    /// Normalised latents `[1, C, F, H, W]` to RGBA bytes of each frame, row-major, given to `sink` one after another as they come.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the layer, [`Error::Cancelled`], [`Error::Kernels`], and those of `sink`.
    pub async fn decode(
        &self,
        latents: &[f32],
        shape: LatentShape,
        cancel: &CancelToken,
        sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let mut lease = self.take(Direction::Decode, shape, cancel)?;
        let layout = lease.layout();
        let decoding = Decoding { coder: *self, latents, shape, layout: &layout };
        let order = layout.order();
        match &layout.time {
            Time::Chunks(_) if layout.tiles() == 1 => {
                for at in 0..order.len() {
                    each(decoding.tiles(&mut lease, &order[at..=at]).await?, sink).await?;
                }
            }
            // What is carried belongs to a tile: one after another goes through the whole clip.
            Time::Chunks(_) => each(decoding.tiles(&mut lease, &order).await?, sink).await?,
            Time::Windows(windows) => {
                // Frames that the next window has too.
                let mut open: Vec<Vec<u8>> = Vec::new();
                for (at, start) in windows.starts.iter().enumerate() {
                    let mut frames = decoding.tiles(&mut lease, &order[at..=at]).await?;
                    let new = frames.split_off(open.len());
                    fade_frames(&mut open, &frames);
                    open.extend(new);
                    let next = windows.starts.get(at + 1).map_or(open.len(), |next| (next - start) * self.vae.compression()[0]);
                    let rest = open.split_off(next);
                    each(std::mem::replace(&mut open, rest), sink).await?;
                }
            }
        }
        self.executables.keep(lease);
        Ok(())
    }

    /// [`decode`](Self::decode) to all frames at once.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub(super) async fn decode_all(&self, latents: &[f32], shape: LatentShape, cancel: &CancelToken) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        let sink = &mut async |frame| {
            frames.push(frame);
            Ok(())
        };
        self.decode(latents, shape, cancel, sink).await?;
        Ok(frames)
    }
}

/// A clip that is decoded while it is made, one latent frame after another.
#[cfg(feature = "families")]
pub(super) struct Stream {
    lease: Lease,
    /// The latent frame that comes next.
    at: usize,
}

#[cfg(feature = "families")]
impl Stream {
    /// Gives back what it ran on.
    pub(super) fn end(self, executables: &crate::executables::Executables) {
        executables.keep(self.lease);
    }
}

#[cfg(feature = "families")]
impl<'a> Coder<'a> {
    /// A clip of frames of `shape` of which nothing is decoded. What one latent frame leaves to the next has the size of a frame, so
    /// these are decoded whole.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for frames that the device cannot decode whole, and as [`decode`](Self::decode).
    pub(super) fn stream(&self, shape: LatentShape, cancel: &CancelToken) -> Result<Stream> {
        let (key, choose) = self.stream_stage(shape);
        let lease = self.executables.take_pieces(key, self.device, cancel, choose)?;
        if lease.layout().tiles() > 1 {
            let [height, width] = self.pixels(shape.grid[1], shape.grid[2]);
            let expected = "frames that this device decodes whole: smaller ones, or a tiny decoder".into();
            return Err(Error::InvalidRequest { parameter: "size".into(), found: format!("{width}x{height}"), expected });
        }
        Ok(Stream { lease, at: 0 })
    }

    /// What a stream of frames of `shape` runs.
    pub(super) fn stream_stage(self, shape: LatentShape) -> (Key, impl FnOnce() -> Result<Chosen> + use<'a>) {
        let two = LatentShape { grid: [2, shape.grid[1], shape.grid[2]], ..shape };
        let whole = Coder { budget: Budget { total_bytes: u64::MAX, least_value_bytes: 0 }, ..self };
        (Key::Stream(two), move || whole.choose(Direction::Decode, two))
    }

    /// The frames of the next latent frame, which is frame `at` of normalised latents `[C, F, H, W]` of `shape`.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub(super) async fn next(&self, stream: &mut Stream, latents: &[f32], shape: LatentShape, at: usize) -> Result<Vec<Vec<u8>>> {
        let [_, rows, columns] = shape.grid;
        let [height, width] = self.pixels(rows, columns);
        let exec = stream.lease.piece(stream.at.min(1));
        exec.write("latents", &part(latents, shape.extents(), [at..at + 1, 0..rows, 0..columns]))?;
        exec.run().await?;
        stream.at += 1;
        read_rgba(exec, height * width).await
    }
}

/// Gives all frames to `sink`.
pub(super) async fn each(frames: Vec<Vec<u8>>, sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>) -> Result<()> {
    for frame in frames {
        sink(frame).await?;
    }
    Ok(())
}

impl Decoding<'_> {
    /// The frames of these pieces, put together from tiles.
    async fn tiles(&self, lease: &mut Lease, order: &Order) -> Result<Vec<Vec<u8>>> {
        let Layout { rows, columns, .. } = self.layout;
        if self.layout.tiles() == 1 {
            return self.tile(lease, order, rows.window(0), columns.window(0)).await;
        }
        let [tile_height, tile_width] = self.coder.pixels(rows.size, columns.size);
        let [height, width] = self.coder.pixels(self.shape.grid[1], self.shape.grid[2]);
        let [_, row, column] = self.coder.vae.compression();
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for y in 0..rows.starts.len() {
            let mut strip: Vec<Vec<u8>> = Vec::new();
            for x in 0..columns.starts.len() {
                let tile = self.tile(lease, order, rows.window(y), columns.window(x)).await?;
                strip.resize_with(tile.len(), || vec![0; 4 * tile_height * width]);
                place_columns(&mut strip, &tile, [tile_width, width], Place::of(columns, x, column));
            }
            frames.resize_with(strip.len(), || vec![0; 4 * height * width]);
            place_rows(&mut frames, &strip, width, Place::of(rows, y, row));
        }
        Ok(frames)
    }

    /// The frames of these pieces of one tile.
    async fn tile(&self, lease: &mut Lease, order: &Order, rows: Range<usize>, columns: Range<usize>) -> Result<Vec<Vec<u8>>> {
        let [height, width] = self.coder.pixels(rows.len(), columns.len());
        let mut made = Vec::new();
        for (piece, frames) in order {
            let exec = lease.piece(*piece);
            exec.write("latents", &part(self.latents, self.shape.extents(), [frames.clone(), rows.clone(), columns.clone()]))?;
            exec.run().await?;
            made.extend(read_rgba(exec, height * width).await?);
        }
        Ok(made)
    }
}

/// The output `rgba` of a plan as bytes of each frame of so many pixels.
///
/// # Errors
/// [`Error::NonFinite`] naming the layer, [`Error::Cancelled`], [`Error::Kernels`].
pub(super) async fn read_rgba(exec: &mut Executable, pixels: usize) -> Result<Vec<Vec<u8>>> {
    let rgba = exec.read_u32("rgba").await?;
    let failed = rgba.iter().filter(|pixel| **pixel >> 24 == 0).count();
    if failed > 0 {
        exec.find_non_finite().await?;
        return Err(Error::NonFinite { at: "frames".into(), count: failed, total: rgba.len() });
    }
    Ok(rgba.chunks_exact(pixels).map(|frame| bytemuck::cast_slice(frame).to_vec()).collect())
}
