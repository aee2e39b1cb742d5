//! Where values lie: a file read by ranges, the place of a tensor in it, and what is applied to its values.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::encoding::Encoding;
use crate::panels::Panels;

/// As much of a file as is looked at or moved at once: files may be larger than memory.
pub(crate) const WINDOW_BYTES: usize = 16 << 20;

/// A file that is read by ranges: on disk, in memory, or somewhere that is slow.
pub trait ByteSource: Send + Sync {
    /// Its length in bytes.
    fn size(&self) -> u64;

    /// The bytes of `range`, lent if they lie in memory.
    ///
    /// # Errors
    /// What the system says, and [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) beyond the end.
    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;
}

impl<T: AsRef<[u8]> + Send + Sync> ByteSource for T {
    fn size(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let index = |at: u64| usize::try_from(at).ok();
        let slice = index(range.start).zip(index(range.end)).and_then(|(start, end)| self.as_ref().get(start..end));
        slice.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// A file that several weights share.
pub type SharedBytes = Arc<dyn ByteSource>;

/// Values of one encoding at a range of a file. Cloning is cheap.
#[derive(Clone)]
pub struct Place {
    /// The file.
    pub file: SharedBytes,
    /// Which bytes of it.
    pub range: Range<u64>,
    /// How they are to be read.
    pub encoding: Encoding,
}

impl Place {
    /// Values in memory.
    pub fn from_f32(values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { range: 0..bytes.len() as u64, file: Arc::new(bytes), encoding: Encoding::F32 }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        let [values, bytes] = self.encoding.block();
        (self.range.end.saturating_sub(self.range.start) / bytes as u64) as usize * values
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the range holds just so many values and lies within the file.
    fn holds(&self, values: usize) -> bool {
        self.range.end.checked_sub(self.range.start) == self.encoding.bytes(values as u64) && self.range.end <= self.file.size()
    }

    /// The bytes of `count` values from number `first` on; both are whole blocks.
    pub(crate) fn read(&self, first: usize, count: usize) -> io::Result<Cow<'_, [u8]>> {
        let at = |value: usize| self.encoding.bytes(value as u64).ok_or(io::ErrorKind::InvalidInput);
        let start = self.range.start + at(first)?;
        self.file.read(start..start + at(count)?)
    }

    /// Whether all values are below `limit`, seen from the bytes, a window at a time; `false` may be too strict for blocks.
    fn below(&self, limit: f32) -> io::Result<bool> {
        let [values, bytes] = self.encoding.block();
        let window = WINDOW_BYTES / bytes * values;
        for first in (0..self.len()).step_by(window) {
            if !self.encoding.below(&self.read(first, window.min(self.len() - first))?, limit) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends `count` values from number `first` on in f32; both are whole blocks.
    pub(crate) fn extend(&self, out: &mut Vec<f32>, first: usize, count: usize) -> io::Result<()> {
        self.encoding.decode(&self.read(first, count)?, out);
        Ok(())
    }
}

/// Factors of quantised values, which lie apart from them.
#[derive(Clone)]
pub struct Scales {
    /// The factors, row by row.
    pub place: Place,
    /// Rows and columns of the matrix that share a factor.
    pub block: [usize; 2],
}

/// What is added to the values of a tensor, in f32, where they are read.
#[derive(Clone)]
pub enum Delta {
    /// `factor · up · down`, of `[rows, rank]` and `[rank, row]`: a low-rank adaptation (LoRA, arXiv 2106.09685).
    Product {
        /// `[rows, rank]`.
        up: Place,
        /// `[rank, row]`.
        down: Place,
        /// Rank.
        rank: usize,
        /// Strength and scale of the adaptation.
        factor: f32,
    },
    /// `factor · values`.
    Sum {
        /// As many as the tensor has.
        values: Place,
        /// Strength of the adaptation.
        factor: f32,
    },
}

impl Delta {
    /// Whether it fits so many values in rows of `row`.
    fn fits(&self, values: usize, row: usize) -> bool {
        match self {
            Self::Sum { values: added, .. } => added.holds(values),
            Self::Product { up, down, rank, .. } => {
                let whole = row > 0 && values.is_multiple_of(row);
                whole && *rank > 0 && up.holds(values / row * rank) && down.holds(rank * row)
            }
        }
    }

    /// Adds to `values`, which are those from number `first` on, and whole rows of `row`.
    fn add_to(&self, values: &mut [f32], first: usize, row: usize) -> io::Result<()> {
        match self {
            Self::Sum { values: added, factor } => {
                let mut addends = Vec::with_capacity(values.len());
                added.extend(&mut addends, first, values.len())?;
                values.iter_mut().zip(addends).for_each(|(value, added)| *value += factor * added);
            }
            Self::Product { up, down, rank, factor } => {
                let (mut left, mut right) = (Vec::new(), Vec::new());
                up.extend(&mut left, first / row * rank, values.len() / row * rank)?;
                down.extend(&mut right, 0, rank * row)?;
                for (values, left) in values.chunks_exact_mut(row).zip(left.chunks_exact(*rank)) {
                    for (l, right) in left.iter().zip(right.chunks_exact(row)) {
                        let l = factor * l;
                        values.iter_mut().zip(right).for_each(|(value, r)| *value += l * r);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The values of a tensor in its file.
#[derive(Clone)]
pub struct Stored {
    /// The values before they are scaled.
    pub place: Place,
    /// Values in a row, the extents behind the first: where rows of scales begin. At least 1.
    pub row: usize,
    /// What they are multiplied with.
    pub scales: Option<Scales>,
    /// What is then added.
    pub deltas: Vec<Delta>,
    /// The same before anything is added, as the device stores it.
    pub panels: Option<Panels>,
}

impl From<Place> for Stored {
    fn from(place: Place) -> Self {
        Self { place, row: 1, scales: None, deltas: Vec::new(), panels: None }
    }
}

impl Stored {
    /// Whether there are just so many values, of whole rows if they have scales, a factor for each of them, and deltas that fit.
    pub(crate) fn holds(&self, values: usize) -> bool {
        let scaled = |scales: &Scales| {
            let [rows, columns] = scales.block;
            let whole = self.row > 0 && rows > 0 && columns > 0 && values.is_multiple_of(self.row);
            whole && scales.place.holds((values / self.row).div_ceil(rows) * self.row.div_ceil(columns))
        };
        let deltas = self.deltas.iter().all(|delta| delta.fits(values, self.row));
        self.place.holds(values) && self.scales.as_ref().is_none_or(scaled) && deltas
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.place.len()
    }

    /// Whether all values are below `limit`, seen from the bytes; `false` may be too strict for quantised ones.
    pub(crate) fn below(&self, limit: f32) -> io::Result<bool> {
        if !self.deltas.is_empty() {
            return Ok(false);
        }
        if let Some(panels) = &self.panels {
            return panels.place.below(limit);
        }
        let Some(scales) = &self.scales else {
            return self.place.below(limit);
        };
        let most = match self.place.encoding {
            Encoding::I8 => 128.0,
            Encoding::F8E4m3 => 448.0,
            _ => return Ok(false),
        };
        let mut factors = Vec::new();
        scales.place.extend(&mut factors, 0, scales.place.len())?;
        let plain = self.place.encoding == Encoding::I8 || self.place.below(f32::INFINITY)?;
        Ok(plain && factors.iter().fold(true, |all, factor| all & (factor.abs() * most < limit)))
    }

    /// Appends `count` values from number `first` on, in f32. Both are whole rows unless the values are plain numbers.
    pub(crate) fn extend(&self, out: &mut Vec<f32>, first: usize, count: usize) -> io::Result<()> {
        let start = out.len();
        self.place.extend(out, first, count)?;
        if let Some(scales) = &self.scales {
            self.scale(scales, &mut out[start..], first)?;
        }
        self.deltas.iter().try_for_each(|delta| delta.add_to(&mut out[start..], first, self.row))
    }

    fn scale(&self, Scales { place, block: [rows, columns] }: &Scales, values: &mut [f32], first: usize) -> io::Result<()> {
        let (per_row, first_row) = (self.row.div_ceil(*columns), first / self.row);
        // A row of factors may serve many rows of values.
        let (mut factors, mut loaded) = (Vec::new(), None);
        for (r, values) in values.chunks_mut(self.row).enumerate() {
            let at = (first_row + r) / rows;
            if loaded != Some(at) {
                factors.clear();
                place.extend(&mut factors, at * per_row, per_row)?;
                loaded = Some(at);
            }
            for (block, factor) in values.chunks_mut(*columns).zip(&factors) {
                block.iter_mut().for_each(|value| *value *= factor);
            }
        }
        Ok(())
    }
}
