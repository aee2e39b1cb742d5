//! Frames to latents: how images and clips enter a generation.

use std::ops::Range;

use kinora_kernels::{Cadence, CancelToken, Graph, Plan};

use super::blend::ramp;
use super::coder::Coder;
use crate::error::{Error, Result};
use crate::layout::{Cut, Piece, Time};
use crate::models::family::Direction;
use crate::nn::{Carry, Chunk};
use crate::shape::LatentShape;

/// Red, green and blue.
const COLOURS: usize = 3;

impl Coder<'_> {
    /// The plan of a piece, from `frames [1, F', H', W', 3]` to `moments [1, F, H, W, C or more]`.
    ///
    /// # Errors
    /// [`Error::Kernels`] for frames the encoder cannot take.
    pub(super) fn encode_plan(&self, piece: Piece) -> Result<Graph> {
        let [_, rows, columns] = piece.grid;
        let [height, width] = self.pixels(rows, columns);
        let plan = Plan::new();
        let x = plan.input("frames", &[1, piece.frames(self.vae.compression()[0]), height, width, COLOURS], Cadence::EveryStep);
        let carry = Carry::states(&plan, piece.chunk);
        plan.output("moments", plan.scope("encoder", || self.vae.record_encode(&plan, x, &carry)));
        Ok(plan.finish()?)
    }

    /// Frames as RGBA bytes, `[height, width, 4]` each and as many as `shape` stands for, to normalised latents
    /// `[1, C, F, H, W]`: the mean of the encoder's distribution, which involves no chance. Where alpha is 0 there is nothing: grey.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for frames of another size or number, [`Error::NonFinite`] naming the layer,
    /// [`Error::Cancelled`], [`Error::Kernels`].
    pub async fn encode(&self, frames: &[&[u8]], shape: LatentShape, cancel: &CancelToken) -> Result<Vec<f32>> {
        let step = self.vae.compression()[0];
        let ([height, width], count) = (self.pixels(shape.grid[1], shape.grid[2]), 1 + (shape.grid[0] - 1) * step);
        let bytes = height * width * 4;
        if frames.len() != count || frames.iter().any(|frame| frame.len() != bytes) {
            let sizes: Vec<usize> = frames.iter().map(|frame| frame.len()).collect();
            let expected = format!("{count} frames of {width}x{height} RGBA, {bytes} bytes each");
            return Err(Error::InvalidRequest { parameter: "source frames".into(), found: format!("{sizes:?} bytes"), expected });
        }
        let mut lease = self.take(Direction::Encode, shape, cancel)?;
        let layout = lease.layout();
        let (order, pieces) = (layout.order(), layout.pieces());
        let mut sum = Sum::new(shape);
        for y in 0..layout.rows.starts.len() {
            for x in 0..layout.columns.starts.len() {
                for (at, (piece, latent_frames)) in order.iter().enumerate() {
                    let first = match pieces[*piece].chunk {
                        // The frame of the latent frame before it is the last that it does not have.
                        Chunk::Later => 1 + (latent_frames.start - 1) * step,
                        Chunk::Whole | Chunk::First => latent_frames.start * step,
                    };
                    let seen = &frames[first..first + pieces[*piece].frames(step)];
                    let [rows, columns] = [layout.rows.window(y), layout.columns.window(x)];
                    let [top, left] = self.pixels(rows.start, columns.start);
                    let [tile_height, tile_width] = self.pixels(rows.len(), columns.len());
                    let exec = lease.piece(*piece);
                    exec.write("frames", &pixels(seen, width, [top..top + tile_height, left..left + tile_width]))?;
                    exec.run().await?;
                    let moments = exec.read("moments").await?;
                    let failed = moments.iter().filter(|v| !v.is_finite()).count();
                    if failed > 0 {
                        exec.find_non_finite().await?;
                        return Err(Error::NonFinite { at: "encoded frames".into(), count: failed, total: moments.len() });
                    }
                    let in_time = match &layout.time {
                        Time::Chunks(_) => vec![1.0; latent_frames.len()],
                        // An encoder that looks back knows more in the window before.
                        Time::Windows(cut) => (0..latent_frames.len()).map(|t| if t < cut.shared(at) { 0.0 } else { 1.0 }).collect(),
                    };
                    let weights = [in_time, fading(&layout.rows, y), fading(&layout.columns, x)];
                    sum.add(&moments, [latent_frames.clone(), rows, columns], &weights);
                }
            }
        }
        self.executables.keep(lease);
        let mut means = sum.means();
        self.vae.stats().normalize(&mut means);
        Ok(crate::sampling::tokens::channels_first(&means, shape.extents()))
    }
}

/// Red, green and blue in −1..1 of a part of frames of RGBA bytes: 0..=255 becomes −1..=1, as the decoder's result is turned back, and
/// what is transparent 0.
fn pixels(frames: &[&[u8]], width: usize, [rows, columns]: [Range<usize>; 2]) -> Vec<f32> {
    let mut out = Vec::with_capacity(frames.len() * rows.len() * columns.len() * COLOURS);
    for frame in frames {
        for y in rows.clone() {
            let row = &frame[4 * (y * width + columns.start)..4 * (y * width + columns.end)];
            for pixel in row.chunks_exact(4) {
                let value = |byte: u8| if pixel[COLOURS] == 0 { 0.0 } else { f32::from(byte) / 127.5 - 1.0 };
                out.extend(pixel[..COLOURS].iter().map(|byte| value(*byte)));
            }
        }
    }
    out
}

/// How much each position of window `i` counts: less towards a neighbour that has it too.
fn fading(cut: &Cut, i: usize) -> Vec<f32> {
    let after = if i + 1 < cut.starts.len() { cut.shared(i + 1) } else { 0 };
    let weight = |at: usize| {
        let begins = if at < cut.shared(i) { ramp(at, cut.shared(i)) } else { 1.0 };
        let ends = if at + after >= cut.size { 1.0 - ramp(at + after - cut.size, after) } else { 1.0 };
        begins * ends
    };
    (0..cut.size).map(weight).collect()
}

/// Weighted latents `[F, H, W, C]`, and the weights `[F, H, W]`.
struct Sum {
    shape: LatentShape,
    values: Vec<f32>,
    weights: Vec<f32>,
}

impl Sum {
    fn new(shape: LatentShape) -> Self {
        let positions = shape.grid.iter().product::<usize>();
        Self { shape, values: vec![0.0; positions * shape.channels], weights: vec![0.0; positions] }
    }

    /// Adds `moments [F', H', W', C or more]` of a part.
    fn add(&mut self, moments: &[f32], [frames, rows, columns]: [Range<usize>; 3], [in_time, in_rows, in_columns]: &[Vec<f32>; 3]) {
        let (channels, [_, height, width]) = (self.shape.channels, self.shape.grid);
        let each = moments.len() / (frames.len() * rows.len() * columns.len());
        let mut moments = moments.chunks_exact(each);
        for (t, in_time) in frames.zip(in_time) {
            for (y, in_row) in rows.clone().zip(in_rows) {
                for (x, in_column) in columns.clone().zip(in_columns) {
                    let (weight, at) = (in_time * in_row * in_column, (t * height + y) * width + x);
                    self.weights[at] += weight;
                    let sums = &mut self.values[at * channels..][..channels];
                    sums.iter_mut().zip(moments.next().unwrap_or_default()).for_each(|(sum, v)| *sum += weight * v);
                }
            }
        }
    }

    fn means(mut self) -> Vec<f32> {
        for (values, weight) in self.values.chunks_exact_mut(self.shape.channels).zip(&self.weights) {
            values.iter_mut().for_each(|v| *v /= weight);
        }
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_transparent_is_grey() {
        let frame = [0, 255, 51, 255, 0, 255, 51, 0];
        assert_eq!(pixels(&[&frame], 2, [0..1, 0..2]), [-1.0, 1.0, -0.6, 0.0, 0.0, 0.0], "a pixel and none");
    }

    #[test]
    fn parts_that_overlap_are_averaged() {
        let shape = LatentShape { channels: 1, grid: [1, 1, 4] };
        let cut = Cut { size: 3, starts: vec![0, 1] };
        let mut sum = Sum::new(shape);
        for (i, value) in [(0, 10.0), (1, 30.0)] {
            // Two moments, of which one is a mean.
            sum.add(&[value, 99.0, value, 99.0, value, 99.0], [0..1, 0..1, cut.window(i)], &[vec![1.0], vec![1.0], fading(&cut, i)]);
        }
        let means: Vec<i32> = sum.means().iter().map(|v| (v * 10.0).round() as i32).collect();
        assert_eq!(means, [100, 113, 287, 300], "two positions in common");
    }
}
