//! [`Weights`]: a checkpoint as a model sees it, by scopes of names and with the shapes the model expects.
//!
//! It also carries the storage format, so that no model mentions one, and remembers what was taken, so that a checkpoint
//! with tensors nobody asked for is refused instead of half loaded.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::rc::Rc;

use kinora_kernels::{Shape, Weight, WeightFormat};

use crate::error::{Error, Result};
use crate::weights::Checkpoint;

/// A scope of tensor names within a checkpoint. Cloning is cheap.
#[derive(Clone)]
pub struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    format: WeightFormat,
    taken: Rc<RefCell<BTreeSet<String>>>,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// All tensors of `checkpoint`; matrices and convolutions will be stored on the device as `format`.
    pub fn new(checkpoint: &'a Checkpoint, format: WeightFormat) -> Self {
        Self { checkpoint, format, taken: Rc::default(), prefix: String::new() }
    }

    /// The names that start with `name` and a dot.
    pub fn scope(&self, name: impl Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..self.clone() }
    }

    /// Name of the checkpoint, for errors.
    pub fn label(&self) -> &str {
        self.checkpoint.label()
    }

    /// How matrices and convolutions will be stored on the device.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether the checkpoint has this tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.checkpoint.contains(&self.full_name(name))
    }

    /// The tensor `name`, which must have extents `dims`: `[N, K]` of a linear layer, `[N, C, kt, kh, kw]` of a
    /// convolution, `[C]`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`].
    pub fn tensor(&self, name: &str, dims: &[usize]) -> Result<Weight> {
        self.stored(name, dims, dims, self.format)
    }

    /// The tensor `name` of extents `file_dims`, seen as one of `dims` with as many elements: a 1×1 convolution as a linear
    /// layer, for example.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_as(&self, name: &str, file_dims: &[usize], dims: &[usize]) -> Result<Weight> {
        self.stored(name, file_dims, dims, self.format)
    }

    fn stored(&self, name: &str, file_dims: &[usize], dims: &[usize], format: WeightFormat) -> Result<Weight> {
        let name = self.full_name(name);
        let entry = self.checkpoint.entry(&name)?;
        // Some formats drop extents of one.
        if !long(&entry.shape).eq(long(file_dims)) {
            entry.expect_shape(&name, file_dims)?;
        }
        let (values, companions) = self.checkpoint.stored(&name)?;
        let weight = Weight::stored(&name, Shape::new(dims), values, format).ok_or_else(|| Error::CorruptWeights {
            file: self.label().into(),
            problem: format!("`{name}` does not lie within its file"),
        })?;
        let mut taken = self.taken.borrow_mut();
        taken.extend(companions);
        taken.insert(name);
        Ok(weight)
    }

    /// The values of tensor `name`, for what is computed on the host.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor), and those of values that cannot be read.
    pub fn values(&self, name: &str, dims: &[usize]) -> Result<Vec<f32>> {
        // Scalars too, which are no weights of a kernel.
        let flat = if dims.is_empty() { &[1] } else { dims };
        let weight = self.stored(name, dims, flat, WeightFormat::F32)?;
        weight.check()?;
        Ok(weight.values())
    }

    /// The extents of tensor `name`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn shape(&self, name: &str) -> Result<&'a [usize]> {
        Ok(&self.checkpoint.entry(&self.full_name(name))?.shape)
    }

    /// Declares that the tensors of this scope whose names start with `prefix` are not needed.
    pub fn ignore(&self, prefix: &str) {
        let prefix = self.full_name(prefix);
        let names = self.checkpoint.names().filter(|n| n.starts_with(&prefix)).map(String::from);
        self.taken.borrow_mut().extend(names);
    }

    /// Checks, after loading, that nothing of the checkpoint is left over: a left-over tensor means that the
    /// configuration describes another model.
    ///
    /// # Errors
    /// [`Error::UnexpectedTensors`].
    pub fn finish(&self) -> Result<()> {
        let taken = self.taken.borrow();
        let left: Vec<&str> = self.checkpoint.names().filter(|n| !taken.contains(*n)).collect();
        match left.first() {
            None => Ok(()),
            Some(first) => Err(Error::UnexpectedTensors { first: (*first).into(), count: left.len(), file: self.label().into() }),
        }
    }
}

/// The extents but those of one.
fn long(dims: &[usize]) -> impl Iterator<Item = &usize> {
    dims.iter().filter(|extent| **extent != 1)
}
