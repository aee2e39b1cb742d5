//! Matrices and convolutions that lie in a file as the device stores them: nothing has to be made of them.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use crate::place::{ByteSource, Place};
use crate::shape::Shape;
use crate::weight::PANEL;

/// Panels of a weight in a file, of f32 or f16.
#[derive(Clone)]
pub struct Panels {
    /// The bytes of [`Weight::panel_bytes`](crate::Weight::panel_bytes).
    pub place: Place,
    /// Extents of the weight that they were made of.
    pub shape: Shape,
}

impl Panels {
    /// Values of a row, taps, channels of a panel, and bytes of a value.
    fn extents(&self) -> [usize; 4] {
        let dims = self.shape;
        let (channels, taps) = (dims.dims()[1], dims.dims()[2..].iter().product::<usize>());
        [channels * taps, taps, channels.next_multiple_of(4), self.place.encoding.block()[1]]
    }

    /// Bytes of a panel.
    fn panel_bytes(&self) -> u64 {
        let [_, taps, channels, value] = self.extents();
        (PANEL * taps * channels * value) as u64
    }

    /// Whether the bytes are those of this shape.
    #[must_use]
    pub fn fits(&self) -> bool {
        let dims = self.shape;
        let known = dims.rank() > 1 && dims.dims().iter().all(|extent| *extent > 0) && self.place.encoding.block()[0] == 1;
        let panels = || dims.dims()[0].div_ceil(PANEL) as u64;
        let Range { start, end } = self.place.range.clone();
        known && end.checked_sub(start) == panels().checked_mul(self.panel_bytes()) && end <= self.place.file.size()
    }
}

/// The values as they were before they were packed, row by row, for whoever looks at some of them.
impl ByteSource for Panels {
    fn size(&self) -> u64 {
        let [.., value] = self.extents();
        (self.shape.elements() * value) as u64
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let [row, taps, channels, value] = self.extents();
        let index = |at: u64| usize::try_from(at).ok().filter(|at| at.is_multiple_of(value)).map(|at| at / value);
        let (first, end) = index(range.start).zip(index(range.end)).ok_or(io::ErrorKind::InvalidInput)?;
        if first > end || range.end > self.size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let panels = first / row / PANEL..end.div_ceil(row).div_ceil(PANEL);
        let at = |panel: usize| self.place.range.start + panel as u64 * self.panel_bytes();
        let packed = self.place.file.read(at(panels.start)..at(panels.end))?;
        let mut out = Vec::with_capacity((end - first) * value);
        for index in first..end {
            let (r, k) = (index / row, index % row);
            let at = ((r / PANEL - panels.start) * taps * channels + k % taps * channels + k / taps) * PANEL + r % PANEL;
            out.extend_from_slice(&packed[at * value..][..value]);
        }
        Ok(Cow::Owned(out))
    }
}
