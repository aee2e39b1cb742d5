//! Constant parameters of a model: where their values come from and how a kernel wants them stored.
//!
//! A model never sees a format: it hands a [`Weight`] to an operator, and the executor packs and uploads it once.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use half::f16;

use crate::encoding::Encoding;
use crate::error::{Error, Result};
use crate::place::{Place, Scales, Stored, WINDOW_BYTES};
use crate::raw::{Q8_BLOCK, RawRows};
use crate::shape::Shape;

/// Columns of a GEMM or convolution weight that are stored side by side (see `shaders/README.md`).
pub const PANEL: usize = 16;

/// The storage format of matrix and convolution weights on the device. Vectors are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum WeightFormat {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats in pairs inside `u32`, so that no adapter feature is needed.
    F16,
}

/// A constant tensor of a model. Cloning is cheap.
#[derive(Clone)]
pub struct Weight(Arc<Inner>);

struct Inner {
    id: u64,
    name: String,
    shape: Shape,
    format: WeightFormat,
    parts: Vec<Stored>,
    /// What [`Weight::check`] found.
    checked: OnceLock<Result<()>>,
}

impl Weight {
    /// A weight over values in a file; `None` if they are not those of `shape`.
    pub fn stored(name: impl Into<String>, shape: Shape, values: Stored, format: WeightFormat) -> Option<Self> {
        values.holds(shape.elements()).then(|| Self::build(name.into(), shape, format, vec![values]))
    }

    /// A weight computed by the host.
    ///
    /// # Panics
    /// If the number of values is not that of `shape`: a bug of the caller.
    pub fn from_f32(name: impl Into<String>, shape: Shape, values: &[f32], format: WeightFormat) -> Self {
        assert_eq!(values.len(), shape.elements(), "values of a weight of shape {shape}");
        Self::build(name.into(), shape, format, vec![Place::from_f32(values).into()])
    }

    /// Weights of equal inner shape, one after another along the first axis: several projections of one input as one.
    pub fn stack(weights: &[Self]) -> Option<Self> {
        let first = weights.first()?;
        let shape = first.shape();
        let inner = &shape.dims()[1..];
        if weights.iter().any(|w| w.shape().dims()[1..] != *inner || w.format() != first.format()) {
            return None;
        }
        let mut dims = vec![weights.iter().map(|w| w.shape().dims()[0]).sum()];
        dims.extend_from_slice(inner);
        let name = weights.iter().map(Self::name).collect::<Vec<_>>().join("+");
        let parts = weights.iter().flat_map(|w| w.0.parts.iter().cloned()).collect();
        Some(Self::build(name, Shape::new(&dims), first.format(), parts))
    }

    fn build(name: String, shape: Shape, format: WeightFormat, parts: Vec<Stored>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(Inner { id: NEXT.fetch_add(1, Ordering::Relaxed), name, shape, format, parts, checked: OnceLock::new() }))
    }

    pub(crate) fn downgrade(&self) -> WeakWeight {
        WeakWeight(Arc::downgrade(&self.0))
    }

    /// A number no other weight of this process has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The key in the checkpoint.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// `[N, K]` for a linear layer, `[Cout, Cin, kt, kh, kw]` for a convolution, `[C]` for a vector.
    pub fn shape(&self) -> Shape {
        self.0.shape
    }

    /// How the device stores it.
    pub fn format(&self) -> WeightFormat {
        self.0.format
    }

    /// The values as the kernel sees them: rounded to f16 if that is the storage format of a matrix. Where the file can no
    /// longer be read they are NaN, which a run reports; [`check`](Self::check) says why.
    pub fn values(&self) -> Vec<f32> {
        let mut out = self.file_values().unwrap_or_else(|_| vec![f32::NAN; self.shape().elements()]);
        if self.is_f16() {
            out.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
        }
        out
    }

    fn file_values(&self) -> io::Result<Vec<f32>> {
        let mut out = Vec::with_capacity(self.shape().elements());
        for part in &self.0.parts {
            part.extend(&mut out, 0, part.len())?;
        }
        Ok(out)
    }

    /// Values of a row: the extents behind the first.
    pub(crate) fn row_len(&self) -> usize {
        self.shape().dims()[1..].iter().product()
    }

    /// K' of the panels: taps times the input channels padded to a multiple of four.
    pub(crate) fn panel_depth(&self) -> usize {
        let dims = self.shape();
        dims.dims()[2..].iter().product::<usize>() * dims.dims()[1].next_multiple_of(4)
    }

    /// Bytes as the device stores it.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let dims = self.shape();
        if dims.rank() == 1 {
            return 4 * dims.elements().next_multiple_of(4) as u64;
        }
        let element = if self.is_f16() { 2 } else { 4 };
        element * (dims.dims()[0].next_multiple_of(PANEL) * self.panel_depth()) as u64
    }

    /// How all its rows lie in files, if that is one way which the device reads by itself; others are made f32 on their way.
    pub(crate) fn raw(&self) -> Option<RawRows> {
        let kind = |part: &Stored| match (part.place.encoding, &part.scales) {
            _ if !part.deltas.is_empty() => None,
            (Encoding::F32, None) => Some(RawRows::F32),
            (Encoding::F16, None) => Some(RawRows::F16),
            (Encoding::Bf16, None) => Some(RawRows::Bf16),
            // Blocks end with a row of the file, which may be another one than that of the shape.
            (Encoding::I8, Some(Scales { place, block: [1, Q8_BLOCK] })) if place.encoding == Encoding::F16 => {
                (part.row == self.row_len()).then_some(RawRows::Q8)
            }
            (encoding, None) if encoding.is_blocks() && self.row_len().is_multiple_of(encoding.block()[0]) => {
                Some(RawRows::Blocks(encoding))
            }
            _ => None,
        };
        let first = kind(self.0.parts.first()?)?;
        self.0.parts.iter().all(|part| kind(part) == Some(first)).then_some(first)
    }

    /// Where its panels lie in files, one part after another, if they are what the device stores.
    pub(crate) fn panels(&self) -> Option<Vec<&Place>> {
        let encoding = if self.is_f16() { Encoding::F16 } else { Encoding::F32 };
        let mut places = Vec::with_capacity(self.0.parts.len());
        for (at, part) in (1..).zip(&self.0.parts) {
            let panels = part.panels.as_ref().filter(|_| part.deltas.is_empty())?;
            // Between two parts no panel has rows of both.
            let whole = at == self.0.parts.len() || panels.shape.dims()[0].is_multiple_of(PANEL);
            let same = panels.place.encoding == encoding && panels.shape.dims()[1..] == self.shape().dims()[1..];
            if !whole || !same {
                return None;
            }
            places.push(&panels.place);
        }
        Some(places)
    }

    /// How many panels a matrix or convolution has, and how many columns of 16 values each.
    #[must_use]
    pub fn panel_extents(&self) -> [usize; 2] {
        [self.shape().dims()[0].div_ceil(PANEL), self.panel_depth()]
    }

    /// Calls `take` with the bytes of `rows` and of their scales as they are in the file, part by part. Only for weights that
    /// have [`raw`](Self::raw) rows.
    pub(crate) fn raw_rows(&self, rows: Range<usize>, mut take: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let row = self.row_len();
        for (part, own) in self.parts_of(rows) {
            let values = part.place.read(own.start * row, own.len() * row).map_err(|error| self.unreadable(&error))?;
            let scales = part.scales.as_ref().map(|scales| {
                let blocks = row.div_ceil(Q8_BLOCK);
                scales.place.read(own.start * blocks, own.len() * blocks)
            });
            let scales = scales.transpose().map_err(|error| self.unreadable(&error))?;
            take(&values, scales.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    /// The values of `rows` as they are in the file.
    pub(crate) fn row_values(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let mut out = Vec::with_capacity(rows.len() * self.row_len());
        for (part, own) in self.parts_of(rows) {
            let [first, end] = [own.start, own.end].map(|row| row * self.row_len());
            // Values are read in whole blocks, those with scales and deltas in whole rows of the file.
            let plain = part.scales.is_none() && part.deltas.is_empty();
            let unit = if plain { part.place.encoding.block()[0] } else { part.row };
            let (from, to) = (first / unit * unit, end.next_multiple_of(unit));
            let before = out.len();
            part.extend(&mut out, from, to - from).map_err(|error| self.unreadable(&error))?;
            out.drain(before..before + first - from);
            out.truncate(before + end - first);
        }
        Ok(out)
    }

    /// The parts that hold some of `rows`, and which of their own.
    fn parts_of(&self, rows: Range<usize>) -> impl Iterator<Item = (&Stored, Range<usize>)> {
        let row_len = self.row_len().max(1);
        let mut first = 0;
        self.0.parts.iter().filter_map(move |part| {
            let count = part.len() / row_len;
            let own = rows.start.max(first) - first..rows.end.min(first + count).saturating_sub(first);
            first += count;
            (own.start < own.end).then_some((part, own))
        })
    }

    /// Whether the device stores f16.
    pub(crate) fn is_f16(&self) -> bool {
        self.format() == WeightFormat::F16 && self.shape().rank() > 1
    }

    /// Fails with [`Error::Weight`] at the first value that is no finite number as the device stores it, with
    /// [`Error::Unreadable`] if the file cannot be read. Looks once.
    pub fn check(&self) -> Result<()> {
        let look = || {
            // From here on f16 rounds to infinity.
            let limit = if self.is_f16() { 65_520.0 } else { f32::INFINITY };
            let mut parts = self.0.parts.iter();
            if parts.all(|part| part.below(limit).unwrap_or(false)) {
                return Ok(());
            }
            let stored = |v: f32| if self.is_f16() { f16::from_f32(v).to_f32() } else { v };
            let (rows, row) = (self.shape().dims()[0], self.row_len().max(1));
            let window = (WINDOW_BYTES / 4 / row).max(1);
            for first in (0..rows).step_by(window) {
                let values = self.row_values(first..rows.min(first + window))?;
                if let Some((index, value)) = values.iter().copied().enumerate().find(|(_, v)| !stored(*v).is_finite()) {
                    return Err(Error::Weight { name: self.name().into(), index: first * row + index, value });
                }
            }
            Ok(())
        };
        self.0.checked.get_or_init(look).clone()
    }

    pub(crate) fn unreadable(&self, error: &io::Error) -> Error {
        Error::Unreadable { name: self.name().into(), detail: error.to_string() }
    }

    /// Row `index` of a table as it is in the file, without reading the others; `None` beyond the last.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    ///
    /// # Panics
    /// If the weight is a [`stack`](Self::stack): tables are not stacked.
    pub fn row(&self, index: usize) -> Result<Option<Vec<f32>>> {
        let [part] = self.0.parts.as_slice() else { panic!("row of the stacked weight {self:?}") };
        let (rows, width) = (self.shape().dims()[0], self.shape().elements() / self.shape().dims()[0].max(1));
        if index >= rows {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(width);
        part.extend(&mut out, index * width, width).map_err(|error| self.unreadable(&error))?;
        Ok(Some(out))
    }

    /// Bytes of a vector as stored: f32, zero-padded to a multiple of four values.
    pub fn vector_bytes(&self) -> Vec<u8> {
        let mut values = self.values();
        values.resize(values.len().next_multiple_of(4), 0.0);
        bytemuck::cast_slice(&values).to_vec()
    }

    /// Bytes of a matrix or convolution as stored: `[ceil(N / 16)][K'][16]`, where K' runs over the taps with the
    /// input channels innermost, each tap's channels zero-padded to a multiple of four. The twin of what devices do.
    pub fn panel_bytes(&self) -> Vec<u8> {
        let dims = self.shape();
        let (n, cin) = (dims.dims()[0], dims.dims()[1]);
        let taps: usize = dims.dims()[2..].iter().product();
        let (cin4, panels) = (cin.next_multiple_of(4), n.div_ceil(PANEL));
        let values = self.values();
        let mut packed = vec![0.0f32; panels * taps * cin4 * PANEL];
        for (row, w) in values.chunks_exact(cin * taps).enumerate() {
            let base = (row / PANEL) * taps * cin4 * PANEL + row % PANEL;
            for (k, value) in w.iter().enumerate() {
                let (c, tap) = (k / taps, k % taps);
                packed[base + (tap * cin4 + c) * PANEL] = *value;
            }
        }
        match self.format() {
            WeightFormat::F32 => bytemuck::cast_slice(&packed).to_vec(),
            WeightFormat::F16 => packed.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        }
    }
}

/// A handle that does not keep a weight alive.
pub(crate) struct WeakWeight(Weak<Inner>);

impl WeakWeight {
    pub(crate) fn alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{} {:?}", self.name(), self.shape(), self.format())
    }
}

#[cfg(test)]
mod tests;
