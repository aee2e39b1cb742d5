//! Which frames show when a clip is played at another rate, and how many of them are kept.

use std::collections::VecDeque;

use crate::{
    FrameRate, Result,
    fit::{Shape, fit, fit_whole},
};

/// Frames that are kept at most, and their bytes: what is beyond is cut, and said to be.
const MAX_KEPT_FRAMES: usize = 10_000;
const MAX_KEPT_BYTES: usize = 1 << 30;

/// Which part of a clip is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// At most so many frames from its start.
    First(usize),
    /// At most so many frames up to its end.
    Last(usize),
}

/// What a clip needs of an image or another clip: nothing else is decoded or kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second.
    pub rate: FrameRate,
    /// Which of its frames.
    pub part: Part,
    /// sRGB behind what is transparent, and beside what is whole.
    pub background: [u8; 3],
    /// All of each frame with margins, not the middle that covers the size.
    pub whole: bool,
}

/// Frames in the size, at the rate and of the part that was needed.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Opaque RGBA, `[height, width, 4]` bytes each.
    pub frames: Vec<Vec<u8>>,
    /// There was more that was not taken.
    pub is_cut: bool,
}

impl Taken {
    /// A sentence for people if `name` was cut.
    #[must_use]
    pub fn cut_note(&self, name: &str, need: &Need) -> Option<String> {
        let seconds = self.frames.len() as f64 / need.rate.as_f64();
        let part = if matches!(need.part, Part::First(_)) { "first" } else { "last" };
        self.is_cut.then(|| format!("`{name}` is longer: its {part} {} frames ({seconds:.1} s) are used", self.frames.len()))
    }
}

/// A frame as it is in a file.
pub(crate) struct Frame {
    /// `[height, width, 4]` bytes.
    pub(crate) rgba: Vec<u8>,
    /// How long it shows; `None` if the file does not say how fast it is.
    pub(crate) seconds: Option<f64>,
}

/// The frames of a file in the order in which they show.
pub(crate) type Frames<'a> = dyn Iterator<Item = Result<Frame>> + 'a;

/// How often each frame shows at a rate: whenever it is on screen in the middle of an interval. Frames that do not say how long
/// they last show once.
pub(crate) struct Clock {
    rate: f64,
    seconds: f64,
    shown: u64,
}

impl Clock {
    pub(crate) fn new(rate: FrameRate) -> Self {
        Self { rate: rate.as_f64(), seconds: 0.0, shown: 0 }
    }

    /// Intervals whose middle is before the end of the next frame.
    pub(crate) fn advance(&mut self, seconds: Option<f64>) -> u64 {
        let until = match seconds {
            None => self.shown + 1,
            Some(seconds) => {
                self.seconds += seconds;
                // `as` saturates for clips of a billion years.
                (self.seconds * self.rate - 0.5).ceil().max(0.0) as u64
            }
        };
        let times = until.saturating_sub(self.shown);
        self.shown += times;
        times
    }

    /// Intervals that are left at the end: the last frame shows there too, and every clip shows once.
    pub(crate) fn rest(&self) -> u64 {
        ((self.seconds * self.rate).round() as u64).max(1).saturating_sub(self.shown)
    }
}

/// The frames that are wanted of those that come.
pub(crate) struct Kept {
    part: Part,
    most: usize,
    frames: VecDeque<Vec<u8>>,
    is_cut: bool,
}

impl Kept {
    pub(crate) fn new(need: &Need) -> Self {
        let frame_bytes = (need.width as usize).saturating_mul(need.height as usize).saturating_mul(4).max(1);
        let (Part::First(wanted) | Part::Last(wanted)) = need.part;
        let most = wanted.min(MAX_KEPT_FRAMES).min(MAX_KEPT_BYTES / frame_bytes).max(1);
        Self { part: need.part, most, frames: VecDeque::new(), is_cut: false }
    }

    /// How many frames are kept at most.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Takes a frame that shows so often; `false` if no more are wanted.
    pub(crate) fn push(&mut self, frame: Vec<u8>, times: u64) -> bool {
        let room = self.most - self.frames.len();
        let fits = usize::try_from(times).map_or(room, |times| times.min(room));
        let over = times - fits as u64;
        self.is_cut |= over > 0;
        if matches!(self.part, Part::First(_)) {
            self.repeat(frame, fits);
            return over == 0;
        }
        let over = usize::try_from(over).map_or(self.most, |over| over.min(self.most));
        self.frames.drain(..over.min(self.frames.len()));
        self.repeat(frame, (fits + over).min(self.most));
        true
    }

    fn repeat(&mut self, frame: Vec<u8>, times: usize) {
        if times > 0 {
            (1..times).for_each(|_| self.frames.push_back(frame.clone()));
            self.frames.push_back(frame);
        }
    }

    /// There was more before what comes.
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
    }

    pub(crate) fn last(&self) -> Option<Vec<u8>> {
        self.frames.back().cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn taken(self) -> Taken {
        Taken { frames: self.frames.into(), is_cut: self.is_cut }
    }
}

/// What is needed of frames that come one after another. Ends reading as soon as there is enough.
pub(crate) fn take(frames: &mut Frames<'_>, shape: Shape, need: &Need) -> Result<Taken> {
    let mut clock = Clock::new(need.rate);
    let mut kept = Kept::new(need);
    let fitted = |rgba: &[u8]| {
        let size = [need.width, need.height];
        if need.whole { fit_whole(rgba, shape, size, need.background) } else { fit(rgba, shape, need.width, need.height, need.background) }
    };
    // The last frame, if it did not show yet.
    let mut hidden = None;
    for frame in frames {
        let Frame { rgba, seconds } = frame?;
        hidden = match clock.advance(seconds) {
            0 => Some(rgba),
            times => {
                if !kept.push(fitted(&rgba)?, times) {
                    return Ok(kept.taken());
                }
                None
            }
        };
    }
    let rest = clock.rest();
    if rest > 0 {
        let last = match hidden {
            Some(rgba) => Some(fitted(&rgba)?),
            None => kept.last(),
        };
        if let Some(last) = last {
            kept.push(last, rest);
        }
    }
    Ok(kept.taken())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Indices of the frames that show; frames are one pixel whose red is their index.
    fn shown(seconds: &[Option<f64>], fps: f64, part: Part) -> (Vec<u8>, bool) {
        let rate = FrameRate::from_f64(fps).unwrap_or_else(|e| panic!("{e}"));
        let need = Need { width: 1, height: 1, rate, part, background: [0; 3], whole: false };
        let mut frames = seconds.iter().zip(0..).map(|(seconds, index)| Ok(Frame { rgba: vec![index, 0, 0, 255], seconds: *seconds }));
        let taken = take(&mut frames, Shape::square(1, 1), &need).unwrap_or_else(|e| panic!("{e}"));
        (taken.frames.iter().map(|frame| frame[0]).collect(), taken.is_cut)
    }

    fn all(seconds: &[f64], fps: f64) -> Vec<u8> {
        shown(&seconds.iter().copied().map(Some).collect::<Vec<_>>(), fps, Part::First(usize::MAX)).0
    }

    #[test]
    fn frames_are_chosen_by_the_time_they_are_on_screen() {
        assert_eq!(all(&[1.0 / 24.0; 8], 12.0), [1, 3, 5, 7], "every second frame");
        assert_eq!(all(&[1.0 / 6.0; 2], 12.0), [0, 0, 1, 1], "each twice");
        assert_eq!(all(&[0.5, 0.1, 0.4], 10.0), [0, 0, 0, 0, 0, 1, 2, 2, 2, 2], "as long as each lasts");
        assert_eq!(all(&[0.001], 12.0), [0], "at least one");
        assert_eq!(all(&[1.0 / 24.0; 5], 12.0), [1, 3, 4], "the last shows to the end");
        assert_eq!(shown(&[None; 3], 12.0, Part::First(9)), (vec![0, 1, 2], false), "as they come");
    }

    #[test]
    fn only_the_part_that_is_wanted_is_kept() {
        let seconds = [Some(0.1); 6];
        assert_eq!(shown(&seconds, 10.0, Part::First(2)), (vec![0, 1], true));
        assert_eq!(shown(&seconds, 10.0, Part::Last(2)), (vec![4, 5], true));
        assert_eq!(shown(&seconds, 10.0, Part::First(6)), (vec![0, 1, 2, 3, 4, 5], false));
        assert_eq!(shown(&seconds, 10.0, Part::Last(6)), (vec![0, 1, 2, 3, 4, 5], false));
        assert_eq!(shown(&seconds, 20.0, Part::Last(3)), (vec![4, 5, 5], true));
        // 136 years: one frame serves them all.
        for part in [Part::First(3), Part::Last(3)] {
            assert_eq!(shown(&[Some(4_294_967_295.0), Some(0.1)], 10.0, part).0.len(), 3, "{part:?}");
        }
        let (frames, is_cut) = shown(&[Some(1e300)], 10.0, Part::Last(usize::MAX));
        assert_eq!((frames.len(), is_cut), (MAX_KEPT_FRAMES, true), "never more than fits");
    }
}
