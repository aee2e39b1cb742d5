//! [`Inputs`]: the arguments of a call, read with checks that name the argument.

use crate::error::{Error, Result};
use crate::weights::{Checkpoint, TensorView};

/// The arguments of a call by their names in the reference.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a>(&'a Checkpoint);

impl<'a> Inputs<'a> {
    /// The tensors of a file.
    pub fn new(file: &'a Checkpoint) -> Self {
        Self(file)
    }

    /// Refuses arguments the reference does not have, which are most likely misspelt.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.names().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Error::InvalidRequest { parameter: "inputs".into(), found: name.into(), expected: known.join(", ") }),
        }
    }

    /// Whether an argument is given.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// An argument of any extents.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn get(&self, name: &str) -> Result<TensorView<'a>> {
        self.0.get(name)
    }

    /// A tensor of as many dimensions as `expected` describes, e.g. `[B, L, C]`, none of which is 0.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`].
    pub fn ranked<const N: usize>(&self, name: &str, expected: &str) -> Result<(TensorView<'a>, [usize; N])> {
        let view = self.0.get(name)?;
        match <[usize; N]>::try_from(view.shape) {
            Ok(dims) if !dims.contains(&0) => Ok((view, dims)),
            _ => Err(wrong_shape(&view, expected)),
        }
    }

    /// The values of a tensor of exactly these extents.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`].
    pub fn values(&self, name: &str, dims: &[usize]) -> Result<Vec<f32>> {
        let view = self.0.get(name)?;
        view.expect_shape(dims)?;
        Ok(view.to_f32())
    }

    /// The values of a tensor of exactly these extents, if it is given.
    ///
    /// # Errors
    /// [`Error::WrongShape`].
    pub fn optional(&self, name: &str, dims: &[usize]) -> Result<Option<Vec<f32>>> {
        self.0.contains(name).then(|| self.values(name, dims)).transpose()
    }

    /// Row numbers: an integer tensor of exactly these extents.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`], [`Error::InvalidRequest`] for a negative one.
    pub fn indices(&self, name: &str, dims: &[usize]) -> Result<Vec<u32>> {
        let view = self.0.get(name)?;
        view.expect_shape(dims)?;
        let index = |v: i64| {
            let expected = "an index from 0 on".into();
            u32::try_from(v).map_err(|_| Error::InvalidRequest { parameter: name.into(), found: v.to_string(), expected })
        };
        view.to_i64()?.into_iter().map(index).collect()
    }

    /// A count: an integer tensor of one element.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`], [`Error::InvalidRequest`] for a negative one.
    pub fn count(&self, name: &str) -> Result<usize> {
        let view = self.0.get(name)?;
        let values = view.to_i64()?;
        match values.as_slice() {
            [value] => usize::try_from(*value).map_err(|_| Error::InvalidRequest {
                parameter: name.into(),
                found: value.to_string(),
                expected: "a count".into(),
            }),
            _ => Err(wrong_shape(&view, "[] or [1]")),
        }
    }
}

/// The error of an argument whose extents are not as `expected` describes.
pub fn wrong_shape(view: &TensorView<'_>, expected: &str) -> Error {
    Error::WrongShape { name: view.name.into(), expected: expected.into(), found: view.shape.to_vec() }
}
