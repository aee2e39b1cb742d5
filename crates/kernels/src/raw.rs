//! Rows of weights as they lie in files, and the kernel that makes panels of them on the device.

use std::ops::Range;

use crate::encoding::Encoding;
use crate::generated::pack::{self, Disk, Params, Variant, Weights};
use crate::kernel::Kernel;
use crate::weight::{PANEL, Weight, WeightFormat};

/// Bytes between two parameter blocks or two bound parts of a buffer: WebGPU's largest required alignment.
pub(crate) const ALIGNMENT: u64 = 256;

/// Columns of a panel that a workgroup of the kernel writes.
const LANES: usize = 64;

/// Values of a row that share a scale in [`RawRows::Q8`].
pub(crate) const Q8_BLOCK: usize = 32;

/// How rows of a weight lie in its file, of those that the device makes panels of by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawRows {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// Signed bytes, and apart from them an f16 scale for each [`Q8_BLOCK`] of a row; the last block may be shorter.
    Q8,
    /// Whole blocks of one of GGUF's formats.
    Blocks(Encoding),
}

impl RawRows {
    /// Bytes of a row of so many values, scales not counted.
    pub(crate) fn bytes(self, row: usize) -> u64 {
        let [values, bytes] = match self {
            Self::F32 => [1, 4],
            Self::F16 | Self::Bf16 => [1, 2],
            Self::Q8 => [1, 1],
            Self::Blocks(encoding) => encoding.block(),
        };
        (row.div_ceil(values) * bytes) as u64
    }
}

/// How rows of a weight lie in a buffer before they are panels: the rows, then the scales that lie apart from them.
pub(crate) struct Layout {
    /// As in the file; f32 where that is nothing the kernel reads.
    pub(crate) disk: Option<RawRows>,
    row_bytes: u64,
    scale_bytes: u64,
}

impl Layout {
    pub(crate) fn of(weight: &Weight) -> Self {
        let (disk, row) = (weight.raw(), weight.row_len());
        // Rows of several types are made f32 on their way.
        let row_bytes = disk.unwrap_or(RawRows::F32).bytes(row);
        let scale_bytes = if disk == Some(RawRows::Q8) { 2 * row.div_ceil(Q8_BLOCK) as u64 } else { 0 };
        Self { disk, row_bytes, scale_bytes }
    }

    /// Where the scales of so many rows begin, and where they end.
    pub(crate) fn extents(&self, rows: usize) -> [u64; 2] {
        let scales = (rows as u64 * self.row_bytes).next_multiple_of(ALIGNMENT);
        [scales, scales + (rows as u64 * self.scale_bytes).next_multiple_of(ALIGNMENT)]
    }

    /// Panels that fit into `room` bytes.
    pub(crate) fn fitting(&self, room: u64) -> usize {
        let panel = PANEL as u64 * (self.row_bytes + self.scale_bytes);
        usize::try_from(room.saturating_sub(2 * ALIGNMENT) / panel.max(1)).unwrap_or(usize::MAX)
    }

    /// Bytes of all rows of a weight that is quantised, which is worth keeping as it is; `None` for others.
    pub(crate) fn quantised_bytes(&self, weight: &Weight) -> Option<u64> {
        let rows = weight.shape().dims()[0];
        matches!(self.disk, Some(RawRows::Q8 | RawRows::Blocks(_))).then(|| self.extents(rows)[1])
    }

    /// The kernel that makes panels of `rows`, which begin with a whole panel, and its parameters.
    pub(crate) fn job(&self, weight: &Weight, rows: Range<usize>) -> (&'static Kernel, Params) {
        let (disk, format, [values, bytes]) = match self.disk {
            None | Some(RawRows::F32) => (Disk::FromF32, 0, [1, 0]),
            Some(RawRows::F16) => (Disk::FromF16, 0, [1, 0]),
            Some(RawRows::Bf16) => (Disk::FromBf16, 0, [1, 0]),
            Some(RawRows::Q8) => (Disk::FromQ8, 0, [1, 0]),
            Some(RawRows::Blocks(encoding)) => (Disk::FromBlocks, number(encoding), encoding.block()),
        };
        let weights = match weight.format() {
            WeightFormat::F32 => Weights::F32,
            WeightFormat::F16 => Weights::F16,
        };
        let dims = weight.shape();
        let params = Params {
            rows: rows.len() as u32,
            channels: dims.dims()[1] as u32,
            taps: dims.dims()[2..].iter().product::<usize>() as u32,
            panel: (rows.start / PANEL) as u32,
            k: weight.panel_depth() as u32,
            format,
            values: values as u32,
            bytes: bytes as u32,
            first: 0,
            end: (rows.len().div_ceil(PANEL) * weight.panel_depth().div_ceil(LANES)) as u32,
            ..Default::default()
        };
        (Variant { disk, weights }.kernel(), params)
    }
}

/// The number by which the kernel knows a format of blocks.
fn number(encoding: Encoding) -> u32 {
    match encoding {
        Encoding::Q8_0 => pack::Q8_0,
        Encoding::Q4_0 => pack::Q4_0,
        Encoding::Q4_1 => pack::Q4_1,
        Encoding::Q5_0 => pack::Q5_0,
        Encoding::Q5_1 => pack::Q5_1,
        Encoding::Iq4Nl => pack::IQ4_NL,
        Encoding::Q2K => pack::Q2_K,
        Encoding::Q3K => pack::Q3_K,
        Encoding::Q4K => pack::Q4_K,
        Encoding::Q5K => pack::Q5_K,
        _ => pack::Q6_K,
    }
}
