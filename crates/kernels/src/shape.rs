//! Tensor shapes, outermost axis first. The last axis (channels) is stored padded to a multiple of four.

use std::fmt;

const MAX_RANK: usize = 6;

/// The extents of a tensor, at most six axes, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// A shape from its extents.
    ///
    /// # Panics
    /// If there are no axes or more than six: a bug of the caller, not of its data.
    pub fn new(dims: &[usize]) -> Self {
        assert!((1..=MAX_RANK).contains(&dims.len()), "a shape has 1 to {MAX_RANK} axes, found {dims:?}");
        let mut padded = [1; MAX_RANK];
        padded[..dims.len()].copy_from_slice(dims);
        Self { dims: padded, rank: dims.len() as u8 }
    }

    /// The extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The extent of the last axis, C.
    pub fn channels(&self) -> usize {
        self.dims[self.rank() - 1]
    }

    /// C in units of four values, rounded up: the stored row length.
    pub fn channels4(&self) -> usize {
        self.channels().div_ceil(4)
    }

    /// The product of all axes but the last, R.
    pub fn rows(&self) -> usize {
        self.dims[..self.rank() - 1].iter().product()
    }

    /// The product of all axes, without padding.
    pub fn elements(&self) -> usize {
        self.rows() * self.channels()
    }

    /// Bytes in a buffer: rows of `channels4` groups of four 32-bit values.
    pub fn bytes(&self) -> u64 {
        self.rows() as u64 * self.channels4() as u64 * 16
    }

    /// The same leading axes with another last one.
    #[must_use]
    pub fn with_channels(mut self, channels: usize) -> Self {
        self.dims[self.rank() - 1] = channels;
        self
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (i, dim) in self.dims().iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, "]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Values of a dense tensor as stored: each row zero-padded to a multiple of four.
pub fn pad_rows<T: Copy + Default>(dense: &[T], shape: Shape) -> Vec<T> {
    let (c, stride) = (shape.channels(), shape.channels4() * 4);
    if c == stride {
        return dense.to_vec();
    }
    let mut padded = vec![T::default(); shape.rows() * stride];
    for (row, values) in dense.chunks_exact(c).enumerate() {
        padded[row * stride..row * stride + c].copy_from_slice(values);
    }
    padded
}

/// The inverse of [`pad_rows`].
pub fn unpad_rows<T: Copy>(stored: &[T], shape: Shape) -> Vec<T> {
    let (c, stride) = (shape.channels(), shape.channels4() * 4);
    stored.chunks_exact(stride).take(shape.rows()).flat_map(|row| row[..c].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_four() {
        let shape = Shape::new(&[2, 3]);
        let padded = pad_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], shape);
        assert_eq!(padded, [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 0.0], "zeros at the end of each row");
        assert_eq!(unpad_rows(&padded, shape), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "the inverse drops them");
        assert_eq!(shape.bytes(), 32, "two rows of one vec4");
    }
}
