//! Text and video as one sequence: each sequence's text rows, then its video rows.

use kinora_kernels::{Plan, Tensor};

use crate::nn::packed_sequences;

/// Where the rows of text and video of several sequences are in their joined rows.
pub(super) struct Joint {
    /// Rows of text and of video of each sequence.
    rows: Vec<[usize; 2]>,
}

impl Joint {
    pub(super) fn new(text_rows: &[usize], token_rows: &[usize]) -> Self {
        Self { rows: text_rows.iter().zip(token_rows).map(|(text, video)| [*text, *video]).collect() }
    }

    /// What each joined row is: whether it is video, and which row of it or of the text.
    fn each(&self) -> Vec<(bool, usize)> {
        let (mut text_at, mut video_at) = (0, 0);
        let mut out = Vec::new();
        for [text, video] in &self.rows {
            out.extend((text_at..text_at + text).map(|row| (false, row)));
            out.extend((video_at..video_at + video).map(|row| (true, row)));
            text_at += text;
            video_at += video;
        }
        out
    }

    /// Attention of each joined sequence to itself.
    pub(super) fn sequences(&self) -> Vec<[u32; 4]> {
        let lengths: Vec<usize> = self.rows.iter().map(|[text, video]| text + video).collect();
        packed_sequences(&lengths, &lengths)
    }

    /// `text [Rt, D]` and `video [R, D]` joined.
    pub(super) fn join<'p>(&self, text: Tensor<'p>, video: Tensor<'p>) -> Tensor<'p> {
        let at: Vec<u32> = self.each().into_iter().map(|(is_video, row)| (row + if is_video { text.rows() } else { 0 }) as u32).collect();
        stack(text, video).gather_rows(text.plan().index_constant(&at))
    }

    /// The video rows of joined ones.
    pub(super) fn video<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let at: Vec<u32> = self.each().iter().enumerate().filter(|(_, (is_video, _))| *is_video).map(|(at, _)| at as u32).collect();
        x.gather_rows(x.plan().index_constant(&at))
    }

    /// Modulation of `video [T, P]`, then of `text [T, P]`, for the rows that [`modulation_index`](Self::modulation_index) gives.
    pub(super) fn modulation_table<'p>(video: Tensor<'p>, text: Tensor<'p>) -> Tensor<'p> {
        stack(video.contiguous(), text.contiguous())
    }

    /// From the timestep of each video row, of `timesteps`, to that of each joined row; text has the timestep of its video.
    pub(super) fn modulation_index<'p>(&self, timestep_index: Tensor<'p>, timesteps: usize) -> Tensor<'p> {
        let (mut pick, mut offset, mut video_at) = (Vec::new(), Vec::new(), 0);
        for [text, video] in &self.rows {
            pick.extend(std::iter::repeat_n(video_at as u32, *text));
            offset.extend(std::iter::repeat_n(timesteps as u32, *text));
            pick.extend((video_at..video_at + video).map(|row| row as u32));
            offset.extend(std::iter::repeat_n(0, *video));
            video_at += video;
        }
        let plan: &'p Plan = timestep_index.plan();
        timestep_index.gather_indices(plan.index_constant(&pick), plan.index_constant(&offset))
    }
}

/// The rows of `a`, then those of `b`.
fn stack<'p>(a: Tensor<'p>, b: Tensor<'p>) -> Tensor<'p> {
    let frames = |x: Tensor<'p>| x.reshape(&[1, x.rows(), 1, 1, x.channels()]);
    let both = frames(a).concat_frames(frames(b));
    both.reshape(&[a.rows() + b.rows(), a.channels()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_before_the_video_of_its_sequence() {
        let joint = Joint::new(&[2, 1], &[1, 3]);
        let each = [(false, 0), (false, 1), (true, 0), (false, 2), (true, 1), (true, 2), (true, 3)];
        assert_eq!(joint.each(), each, "two sequences of unequal lengths");
        assert_eq!(joint.sequences(), [[0, 3, 0, 3], [3, 4, 3, 4]], "which do not see each other");
    }
}
