//! [`Weights`]: a checkpoint as a model sees it, by scopes of names and with the shapes the model expects.
//!
//! It also carries the storage format, so that no model mentions one, and remembers what was taken, so that a checkpoint
//! with tensors nobody asked for is refused instead of half loaded.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use kinora_kernels::{DiskType, Q8_BLOCK, Shape, SharedBytes, Weight, WeightFormat};

use crate::error::{Error, Result};
use crate::weights::{Checkpoint, DType, TensorView};

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

    fn view(&self, name: &str, dims: &[usize]) -> Result<TensorView<'a>> {
        let name = self.full_name(name);
        let view = self.checkpoint.get(&name)?;
        view.expect_shape(dims)?;
        self.taken.borrow_mut().insert(name);
        Ok(view)
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
        let view = self.view(name, file_dims)?;
        let (bytes, range) = self.checkpoint.shared_bytes(view.name)?;
        let disk = self.disk_type(&view, &bytes)?;
        Weight::from_bytes(view.name, Shape::new(dims), disk, bytes, range, format).ok_or_else(|| Error::CorruptWeights {
            file: self.label().into(),
            problem: format!("`{}` does not lie within its file", view.name),
        })
    }

    /// How a float tensor lies in its file. A tensor of I8 is quantised; `{name}.scale` [rows, blocks] in F16 belongs to it.
    fn disk_type(&self, view: &TensorView<'_>, file: &SharedBytes) -> Result<DiskType> {
        match view.dtype {
            DType::F32 => Ok(DiskType::F32),
            DType::F16 => Ok(DiskType::F16),
            DType::BF16 => Ok(DiskType::Bf16),
            DType::I8 if view.shape.len() > 1 && !view.is_empty() => {
                let (name, row) = (format!("{}.scale", view.name), view.shape[1..].iter().product::<usize>());
                let scale = self.checkpoint.get(&name)?;
                scale.expect_shape(&[view.shape[0], row.div_ceil(Q8_BLOCK)])?;
                let (bytes, range) = self.checkpoint.shared_bytes(&name)?;
                if scale.dtype != DType::F16 || !Arc::ptr_eq(&bytes, file) {
                    return Err(Error::CorruptWeights {
                        file: self.label().into(),
                        problem: format!("`{name}` must be F16 and in the same file as `{}`", view.name),
                    });
                }
                self.taken.borrow_mut().insert(name);
                Ok(DiskType::Q8 { scales: range.start, row })
            }
            other => {
                let expected = "F32, F16, BF16, or a matrix of I8 with scales".into();
                Err(Error::WrongDType { name: view.name.into(), expected, found: other.to_string() })
            }
        }
    }

    /// The values of tensor `name`, for what is computed on the host.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn values(&self, name: &str, dims: &[usize]) -> Result<Vec<f32>> {
        let view = self.view(name, dims)?;
        let (file, _) = self.checkpoint.shared_bytes(view.name)?;
        match self.disk_type(&view, &file)? {
            DiskType::Q8 { .. } => Ok(self.stored(name, dims, dims, WeightFormat::F32)?.values()),
            // Scalars among them, which are no weights of a kernel.
            DiskType::F32 | DiskType::F16 | DiskType::Bf16 => Ok(view.to_f32()),
        }
    }

    /// The extents of tensor `name`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn shape(&self, name: &str) -> Result<&'a [usize]> {
        Ok(self.checkpoint.get(&self.full_name(name))?.shape)
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
