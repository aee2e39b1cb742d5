//! One component run over the tensors of a file: how any checkpoint is compared with any other implementation.
//!
//! Inputs are the keyword arguments of the reference class's `forward`, `encode` or `decode`.

mod scheduler;
mod text;
mod transformer;
mod vae;

#[cfg(not(target_arch = "wasm32"))]
use std::path::PathBuf;

#[cfg(not(target_arch = "wasm32"))]
use kinora_kernels::WeightFormat;
use kinora_kernels::{Device, Executable};

use crate::error::{Error, Result};
use crate::models::Model;
#[cfg(not(target_arch = "wasm32"))]
use crate::models::component_folder;
use crate::weights::{Checkpoint, TensorView};
#[cfg(not(target_arch = "wasm32"))]
use crate::weights::{NewTensor, Values, write_file};

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Operation {
    /// The whole component.
    #[default]
    Forward,
    /// Frames to latents.
    Encode,
    /// Latents to frames.
    Decode,
}

impl Operation {
    /// The operation called `name`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn from_name(name: &str) -> Result<Self> {
        [Self::Forward, Self::Encode, Self::Decode].into_iter().find(|op| op.name() == name).ok_or_else(|| Error::InvalidRequest {
            parameter: "op".into(),
            found: name.into(),
            expected: "forward, encode or decode".into(),
        })
    }

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Encode => "encode",
            Self::Decode => "decode",
        }
    }
}

/// A named result.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Name as in the reference's output class.
    pub name: &'static str,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f32>,
}

/// Runs `operation` of `model` over `inputs`.
///
/// # Errors
/// [`Error::InvalidRequest`] for an operation or input the class does not have, [`Error::MissingTensor`],
/// [`Error::WrongShape`], [`Error::WrongDType`], and [`Error::Kernels`].
pub async fn eval(model: &Model, operation: Operation, inputs: &Checkpoint, device: &Device) -> Result<Vec<Output>> {
    match (model, operation) {
        (Model::LtxTransformer(model), Operation::Forward) => transformer::forward(model, &Inputs(inputs), device).await,
        (Model::Scheduler(config), Operation::Forward) => scheduler::set_timesteps(config, &Inputs(inputs)),
        (Model::T5(model), Operation::Forward) => text::t5(model, &Inputs(inputs), device).await,
        (Model::Bert(model), Operation::Forward) => text::bert(model, &Inputs(inputs), device).await,
        (Model::LtxVae(model), Operation::Encode) => vae::encode(model, &Inputs(inputs), device).await,
        (Model::LtxVae(model), Operation::Decode) => vae::decode(model, &Inputs(inputs), device).await,
        (model, operation) => {
            Err(Error::InvalidRequest { parameter: "op".into(), found: operation.name().into(), expected: model.operations().join(" or ") })
        }
    }
}

/// [`eval`] over files: `kinora eval`.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Debug)]
pub struct EvalRequest {
    /// A model folder with `model_index.json`, or a component folder with `config.json`.
    pub model: PathBuf,
    /// Folder of the component inside a model folder.
    pub component: Option<String>,
    /// What to run of it.
    pub operation: Operation,
    /// Safetensors file with the arguments.
    pub inputs: PathBuf,
    /// Safetensors file to write the results to.
    pub outputs: PathBuf,
    /// How matrices and convolutions are stored on the device.
    pub format: WeightFormat,
}

#[cfg(not(target_arch = "wasm32"))]
impl EvalRequest {
    /// Runs the component and writes its results, which are also returned.
    ///
    /// # Errors
    /// As [`eval`], and those of missing, unreadable and unwritable files.
    pub async fn run(&self, device: &Device) -> Result<Vec<Output>> {
        // Arguments first: a slip in them need not wait for the weights.
        let inputs = Checkpoint::open(&self.inputs)?;
        let folder = component_folder(&self.model, self.component.as_deref())?;
        let outputs = eval(&Model::open(&folder, self.format)?, self.operation, &inputs, device).await?;
        let tensors: Vec<_> = outputs.iter().map(|o| NewTensor { name: o.name, shape: &o.shape, values: Values::F32(&o.values) }).collect();
        write_file(&self.outputs, &tensors)?;
        Ok(outputs)
    }
}

/// A result of a run, which must be finite.
async fn finite(run: &mut Executable, name: &'static str) -> Result<Vec<f32>> {
    let values = run.read(name).await?;
    let count = values.iter().filter(|v| !v.is_finite()).count();
    if count == 0 {
        return Ok(values);
    }
    // The first layer that is not finite says more than the last.
    run.find_non_finite().await?;
    Err(Error::NonFinite { at: name.into(), count, total: values.len() })
}

/// The inputs of a call.
struct Inputs<'a>(&'a Checkpoint);

impl<'a> Inputs<'a> {
    /// Refuses arguments the reference does not have, which are most likely misspelt.
    fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.names().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Error::InvalidRequest { parameter: "inputs".into(), found: name.into(), expected: known.join(", ") }),
        }
    }

    /// A tensor of as many dimensions as `expected` describes, e.g. `[B, L, C]`.
    fn ranked<const N: usize>(&self, name: &str, expected: &str) -> Result<(TensorView<'a>, [usize; N])> {
        let view = self.0.get(name)?;
        match <[usize; N]>::try_from(view.shape) {
            Ok(dims) if !dims.contains(&0) => Ok((view, dims)),
            _ => Err(wrong_shape(&view, expected)),
        }
    }

    /// The values of a tensor of exactly these extents.
    fn values(&self, name: &str, dims: &[usize]) -> Result<Vec<f32>> {
        let view = self.0.get(name)?;
        view.expect_shape(dims)?;
        Ok(view.to_f32())
    }

    /// The values of a tensor of exactly these extents, if it is given.
    fn optional(&self, name: &str, dims: &[usize]) -> Result<Option<Vec<f32>>> {
        self.0.contains(name).then(|| self.values(name, dims)).transpose()
    }

    /// A count: an integer tensor of one element.
    fn count(&self, name: &str) -> Result<usize> {
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

fn wrong_shape(view: &TensorView<'_>, expected: &str) -> Error {
    Error::WrongShape { name: view.name.into(), expected: expected.into(), found: view.shape.to_vec() }
}
