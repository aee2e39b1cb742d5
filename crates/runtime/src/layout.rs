//! How much of a clip an autoencoder is given at once: as much as fits, in chunks or windows of time and in tiles of space.
//!
//! [`choose`] decides it from sizes, limits and recorded plans alone. What an autoencoder can be cut into in time it says itself
//! ([`Split`]); in space every one is cut into tiles that overlap and are blended, which is not what it makes of whole frames, but near.

use std::ops::Range;

use kinora_kernels::memory::GroupPlan;
use kinora_kernels::{Cost, Graph, sort_by_numbers};

use crate::error::{Error, Result};
use crate::models::family::{Autoencoder, Direction, Split};
use crate::nn::Chunk;
use crate::shape::LatentShape;

/// Pixels that neighbouring tiles have in common, as in the reference.
const TILE_OVERLAP_PX: usize = 64;

/// An axis cut into windows of equal size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Positions of a window.
    pub(crate) size: usize,
    /// Where each begins.
    pub(crate) starts: Vec<usize>,
}

impl Cut {
    /// One window of all positions.
    pub(crate) fn whole(total: usize) -> Self {
        Self { size: total, starts: vec![0] }
    }

    /// `count` windows of neighbours that have `overlap` positions in common, or more; `None` where that makes no sense: windows
    /// that are all overlap, or no smaller than with one less.
    fn even(total: usize, count: usize, overlap: usize) -> Option<Self> {
        let size = |count: usize| (total + (count - 1) * overlap).div_ceil(count);
        let own = size(count);
        if count > 1 && (own < 2 * overlap.max(1) || own >= size(count - 1)) {
            return None;
        }
        let starts = (0..count).map(|i| i * (total - own) / (count - 1).max(1)).collect();
        Some(Self { size: own, starts })
    }

    /// All ways to cut, from one window on.
    fn all(total: usize, overlap: usize) -> Vec<Self> {
        (1..=total).map_while(|count| Self::even(total, count, overlap)).collect()
    }

    /// The windows.
    pub(crate) fn windows(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.starts.len()).map(|i| self.window(i))
    }

    /// Window `i`.
    pub(crate) fn window(&self, i: usize) -> Range<usize> {
        self.starts[i]..self.starts[i] + self.size
    }

    /// Positions at the start of window `i` that the one before it has too.
    pub(crate) fn shared(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(0, |before| self.starts[before] + self.size - self.starts[i])
    }
}

/// How time is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Chunks of so many latent frames, one after another.
    Chunks(Vec<usize>),
    /// Windows that are blended.
    Windows(Cut),
}

/// What is run to encode or decode a clip, in units of latents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) time: Time,
    pub(crate) rows: Cut,
    pub(crate) columns: Cut,
}

/// A chunk or window as a plan is recorded for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) chunk: Chunk,
    /// Of latents.
    pub(crate) grid: [usize; 3],
}

impl Piece {
    /// Frames it stands for, if a latent frame is `step` frames.
    pub(crate) fn frames(&self, step: usize) -> usize {
        match self.chunk {
            Chunk::Later => self.grid[0] * step,
            Chunk::Whole | Chunk::First => 1 + (self.grid[0] - 1) * step,
        }
    }
}

impl Layout {
    /// Everything at once.
    fn whole(shape: LatentShape) -> Self {
        let [frames, rows, columns] = shape.grid.map(Cut::whole);
        Self { time: Time::Windows(frames), rows, columns }
    }

    /// The pieces of a tile in their order, each as an index into [`pieces`](Self::pieces), with its latent frames.
    pub(crate) fn order(&self) -> Vec<(usize, Range<usize>)> {
        let pieces = self.pieces();
        match &self.time {
            Time::Windows(cut) => cut.windows().map(|window| (0, window)).collect(),
            Time::Chunks(lengths) => {
                let ends = lengths.iter().scan(0, |end, length| {
                    *end += length;
                    Some(*end)
                });
                let piece = |first: bool, length| pieces.iter().position(|p| (p.chunk != Chunk::Later) == first && p.grid[0] == length);
                let of = |(i, (length, end)): (usize, (&usize, usize))| (piece(i == 0, *length).unwrap_or(0), end - length..end);
                lengths.iter().zip(ends).enumerate().map(of).collect()
            }
        }
    }

    /// The distinct pieces of a tile: each is a plan.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let piece = |chunk, frames| Piece { chunk, grid: [frames, self.rows.size, self.columns.size] };
        match &self.time {
            Time::Windows(cut) => vec![piece(Chunk::Whole, cut.size)],
            Time::Chunks(lengths) => {
                let [first, later @ ..] = lengths.as_slice() else { return Vec::new() };
                let mut pieces = vec![piece(if later.is_empty() { Chunk::Whole } else { Chunk::First }, *first)];
                for &length in later {
                    if !pieces[1..].iter().any(|known| known.grid[0] == length) {
                        pieces.push(piece(Chunk::Later, length));
                    }
                }
                pieces
            }
        }
    }

    /// Tiles of a frame.
    pub(crate) fn tiles(&self) -> usize {
        self.rows.starts.len() * self.columns.starts.len()
    }

    /// Latent frames whose pixels are there at once.
    pub(crate) fn frames_at_once(&self) -> usize {
        match &self.time {
            Time::Windows(cut) => cut.size,
            // What is carried belongs to a tile, so each goes through the whole clip.
            Time::Chunks(lengths) if self.tiles() > 1 => lengths.iter().sum(),
            Time::Chunks(lengths) => lengths.iter().copied().max().unwrap_or(0),
        }
    }

    /// Latents that are computed, those in common once for each window.
    fn work(&self) -> usize {
        let frames = match &self.time {
            Time::Chunks(lengths) => lengths.iter().sum(),
            Time::Windows(cut) => cut.starts.len() * cut.size,
        };
        self.tiles() * self.rows.size * self.columns.size * frames
    }

    /// Latents of the largest piece.
    fn volume(&self) -> usize {
        self.pieces().iter().map(|piece| piece.grid.iter().product()).max().unwrap_or(0)
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::Chunks(Vec::new())
    }
}

/// A layout, and a plan for each of its [`pieces`](Layout::pieces).
#[derive(Default)]
pub(crate) struct Chosen {
    pub(crate) layout: Layout,
    pub(crate) graphs: Vec<Graph>,
    /// Bytes of everything but weights, in all plans together.
    pub(crate) value_bytes: u64,
    /// Bytes of the weights.
    pub(crate) weight_bytes: u64,
}

impl Chosen {
    /// A plan that is not cut.
    pub(crate) fn of(graph: Graph) -> Self {
        Self::group(vec![graph])
    }

    /// Plans that run one after another.
    pub(crate) fn group(graphs: Vec<Graph>) -> Self {
        Self { value_bytes: GroupPlan::of(&graphs).total_bytes(), graphs, ..Self::default() }
    }

    fn record(record: &dyn Fn(Piece) -> Result<Graph>, layout: Layout) -> Result<Self> {
        let graphs = layout.pieces().into_iter().map(record).collect::<Result<Vec<Graph>>>()?;
        let weight_bytes = graphs.iter().map(|graph| graph.cost().weight_bytes).max().unwrap_or(0);
        Ok(Self { value_bytes: GroupPlan::of(&graphs).total_bytes(), weight_bytes, layout, graphs })
    }

    /// The plan of the last piece.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if there is none.
    pub(crate) fn into_last(self) -> Result<Graph> {
        let none = || Error::InvalidRequest { parameter: "frames".into(), found: "none".into(), expected: "1 or more".into() };
        self.graphs.into_iter().next_back().ok_or_else(none)
    }

    /// What running all pieces of all tiles takes.
    pub(crate) fn cost(&self) -> Cost {
        let mut whole = Cost { once_flops: 0.0, step_flops: 0.0, value_bytes: self.value_bytes, weight_bytes: self.weight_bytes };
        let order = self.layout.order();
        for (at, graph) in self.graphs.iter().enumerate() {
            let (cost, times) = (graph.cost(), self.layout.tiles() * order.iter().filter(|(piece, _)| *piece == at).count());
            whole.once_flops += times as f64 * (cost.once_flops + cost.step_flops);
        }
        whole
    }
}

/// Bytes that an autoencoder may take on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// With its weights.
    pub total_bytes: u64,
    /// Without its weights, however many they are.
    pub least_value_bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        // What remains of 1.5 GB beside the largest decoder's weights, so that browsers of small machines do.
        Self { total_bytes: 1_000_000_000, least_value_bytes: 380_000_000 }
    }
}

impl Budget {
    /// What is left for everything but weights.
    fn value_bytes(&self, weight_bytes: u64) -> u64 {
        self.total_bytes.saturating_sub(weight_bytes).max(self.least_value_bytes)
    }
}

/// The layout that computes least of those within `budget` whose plans `fit` the device; if none is, the one of the smallest pieces.
/// `record` makes the plan of a piece.
///
/// # Errors
/// Those of `record`, and of `fit` for the smallest pieces there are.
pub(crate) fn choose(
    vae: &dyn Autoencoder,
    direction: Direction,
    shape: LatentShape,
    budget: Budget,
    fit: &dyn Fn(&Graph) -> kinora_kernels::Result<()>,
    record: &dyn Fn(Piece) -> Result<Graph>,
) -> Result<Chosen> {
    let mut layouts = layouts(vae, direction, shape);
    sort_by_numbers(&mut layouts, |layout| [layout.work() as u64, layout.volume() as u64]);
    // From which volume on pieces are known, or all but known, to be too large.
    let mut too_large = usize::MAX;
    for layout in &layouts {
        let volume = layout.volume();
        if volume >= too_large {
            continue;
        }
        let chosen = Chosen::record(record, layout.clone())?;
        let allowed = budget.value_bytes(chosen.weight_bytes);
        let fits = chosen.graphs.iter().try_for_each(fit).is_ok();
        if fits && chosen.value_bytes <= allowed {
            return Ok(chosen);
        }
        // Memory is all but in proportion to the volume.
        let expected = volume as f64 * (1.2 * allowed as f64 / chosen.value_bytes as f64).min(1.0);
        too_large = if fits { volume.min(expected as usize + 1) } else { volume };
    }
    let smallest = layouts.into_iter().min_by_key(Layout::volume).unwrap_or_else(|| Layout::whole(shape));
    let chosen = Chosen::record(record, smallest)?;
    chosen.graphs.iter().try_for_each(fit)?;
    Ok(chosen)
}

/// Every layout of latents of `shape`.
fn layouts(vae: &dyn Autoencoder, direction: Direction, shape: LatentShape) -> Vec<Layout> {
    let [frames, height, width] = shape.grid;
    let [_, per_row, per_column] = vae.compression();
    let times: Vec<Time> = match vae.split(direction, frames) {
        Split::Chunks(lengths) => vec![Time::Chunks(lengths)],
        Split::Windows { overlap } => Cut::all(frames, overlap).into_iter().map(Time::Windows).collect(),
    };
    let [rows, columns] = [(height, per_row), (width, per_column)].map(|(total, pixels)| Cut::all(total, TILE_OVERLAP_PX.div_ceil(pixels)));
    let mut layouts = Vec::new();
    for time in &times {
        for rows in &rows {
            layouts.extend(columns.iter().map(|columns| Layout { time: time.clone(), rows: rows.clone(), columns: columns.clone() }));
        }
    }
    layouts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_an_axis_and_overlap() {
        for total in 1..40 {
            for overlap in 0..5 {
                for cut in Cut::all(total, overlap) {
                    let windows: Vec<Range<usize>> = cut.windows().collect();
                    assert_eq!((windows[0].start, windows[windows.len() - 1].end), (0, total), "{cut:?}");
                    for i in 1..windows.len() {
                        assert!(cut.shared(i) >= overlap && cut.shared(i) < cut.size, "{total}, {overlap}: {cut:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_have_a_plan_for_each_length_and_place() {
        let layout = |lengths: &[usize]| Layout { time: Time::Chunks(lengths.to_vec()), rows: Cut::whole(2), columns: Cut::whole(3) };
        let of = |lengths: &[usize]| layout(lengths).pieces().iter().map(|p| (p.chunk, p.grid[0])).collect::<Vec<_>>();
        assert_eq!(of(&[1]), [(Chunk::Whole, 1)], "nothing is left to anyone");
        assert_eq!(of(&[1, 1, 1]), [(Chunk::First, 1), (Chunk::Later, 1)], "all later ones are one plan");
        assert_eq!(of(&[3, 2, 2]), [(Chunk::First, 3), (Chunk::Later, 2)], "CogVideoX");
        assert_eq!(layout(&[3, 2, 2]).order(), [(0, 0..3), (1, 3..5), (1, 5..7)], "in order");
        assert_eq!(layout(&[2, 2]).order(), [(0, 0..2), (1, 2..4)], "the first is another plan");
        assert_eq!(
            layout(&[3, 2, 2]).pieces().iter().map(|p| p.frames(4)).collect::<Vec<_>>(),
            [9, 8],
            "the first frame has a latent of its own"
        );
    }
}
