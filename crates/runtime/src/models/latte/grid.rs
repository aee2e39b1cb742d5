//! Rows of several grids of tokens by space and by time: which attend to each other, and where each is.

use kinora_kernels::Tensor;

use super::TransformerConfig;
use crate::nn::positions;

/// The grids (frames, rows, columns) of several sequences. Rows are ordered (sequence, frame, row, column) in space and
/// (sequence, row, column, frame) in time.
pub(super) struct Grids<'a>(pub(super) &'a [[usize; 3]]);

impl Grids<'_> {
    /// Frames, pixels of a frame and first row of each sequence.
    fn each(&self) -> impl Iterator<Item = [usize; 3]> {
        let mut first = 0;
        self.0.iter().map(move |[frames, height, width]| {
            let own = [*frames, height * width, first];
            first += frames * height * width;
            own
        })
    }

    /// For each row in time the one in space.
    fn space_of_time(&self) -> Vec<u32> {
        let rows = self
            .each()
            .flat_map(|[frames, pixels, first]| (0..frames * pixels).map(move |row| (first + row % frames * pixels + row / frames) as u32));
        rows.collect()
    }

    /// For each row in space the one in time.
    fn time_of_space(&self) -> Vec<u32> {
        let rows = self
            .each()
            .flat_map(|[frames, pixels, first]| (0..frames * pixels).map(move |row| (first + row % pixels * frames + row / pixels) as u32));
        rows.collect()
    }

    /// `x [R, D]` in space to time.
    pub(super) fn to_time<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        x.gather_rows(x.plan().index_constant(&self.space_of_time()))
    }

    /// `x [R, D]` in time to space.
    pub(super) fn to_space<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        x.gather_rows(x.plan().index_constant(&self.time_of_space()))
    }

    /// Row indices in space to time.
    pub(super) fn index_to_time<'p>(&self, index: Tensor<'p>) -> Tensor<'p> {
        let (plan, pick) = (index.plan(), self.space_of_time());
        index.gather_indices(plan.index_constant(&pick), plan.index_constant(&vec![0; pick.len()]))
    }

    /// The frames of all sequences attend to themselves.
    pub(super) fn spatial(&self) -> Vec<[u32; 4]> {
        let each = self.each().flat_map(|[frames, pixels, first]| (0..frames).map(move |f| [first + f * pixels, pixels]));
        each.map(|[start, length]| [start, length, start, length].map(|v| v as u32)).collect()
    }

    /// What is at one place of all frames of a sequence attends to itself, in time.
    pub(super) fn temporal(&self) -> Vec<[u32; 4]> {
        let each = self.each().flat_map(|[frames, pixels, first]| (0..pixels).map(move |p| [first + p * frames, frames]));
        each.map(|[start, length]| [start, length, start, length].map(|v| v as u32)).collect()
    }

    /// All of a sequence attends to its text.
    pub(super) fn textual(&self, text_rows: &[usize]) -> Vec<[u32; 4]> {
        let tokens: Vec<usize> = self.0.iter().map(|grid| grid.iter().product()).collect();
        crate::nn::packed_sequences(&tokens, text_rows)
    }

    /// Whether all sequences have one grid, and so share a table.
    fn are_equal(&self) -> bool {
        self.0.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// What is added to the tokens: `[L, D]` of rows in space, of one frame if all grids are equal.
    pub(super) fn positions_in_space(&self, config: &TransformerConfig) -> Vec<f32> {
        positions::of_grids(self.0, config.trained_patches(), (config.sample_size / 64).max(1) as f32, config.width())
    }

    /// The same of rows in time, of one place if all grids are equal.
    pub(super) fn positions_in_time(&self, config: &TransformerConfig) -> Vec<f32> {
        let place = |frames: usize| -> Vec<f32> { (0..frames).flat_map(|f| positions::sines(f as f64, config.width())).collect() };
        // The reference gives a single frame no place in time.
        let place = |frames: usize| if frames == 1 { vec![0.0; config.width()] } else { place(frames) };
        if self.are_equal() {
            return self.0.first().map(|[frames, ..]| place(*frames)).unwrap_or_default();
        }
        self.0.iter().flat_map(|[frames, height, width]| place(*frames).repeat(height * width)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_time_and_back() {
        let grids = [[2, 1, 3], [3, 2, 1]];
        let grids = Grids(&grids);
        assert_eq!(grids.space_of_time(), [0, 3, 1, 4, 2, 5, 6, 8, 10, 7, 9, 11], "frames of a place side by side");
        let there: Vec<u32> = grids.space_of_time();
        let back: Vec<u32> = grids.time_of_space().iter().map(|row| there[*row as usize]).collect();
        assert_eq!(back, (0..12).collect::<Vec<u32>>(), "the inverse");
        assert_eq!(grids.spatial(), [[0, 3, 0, 3], [3, 3, 3, 3], [6, 2, 6, 2], [8, 2, 8, 2], [10, 2, 10, 2]], "by frame");
        assert_eq!(grids.temporal(), [[0, 2, 0, 2], [2, 2, 2, 2], [4, 2, 4, 2], [6, 3, 6, 3], [9, 3, 9, 3]], "by place");
        assert_eq!(grids.textual(&[4, 5]), [[0, 6, 0, 4], [6, 6, 4, 5]], "by sequence");
    }
}
