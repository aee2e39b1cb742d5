//! One component run over the tensors of a file: how any checkpoint is compared with any other implementation.
//!
//! Inputs are the keyword arguments of the reference class's `forward`, `encode` or `decode`. Which operations a component
//! has, and what they record, is its family's business ([`Evaluate`](crate::models::family::Evaluate)); running them is the
//! same for all.

mod autoencoder;
mod inputs;
#[cfg(all(feature = "eval", feature = "families"))]
mod rollout;
mod scheduler;
pub mod text;

#[cfg(all(feature = "eval", not(target_arch = "wasm32")))]
use std::path::PathBuf;

#[cfg(all(feature = "eval", not(target_arch = "wasm32")))]
use kinora_kernels::WeightFormat;
use kinora_kernels::{Device, Executable, Graph};

pub use self::autoencoder::Coded;
pub use self::inputs::{Inputs, wrong_shape};
use crate::error::{Error, Result};
#[cfg(feature = "eval")]
use crate::models::component::Component;
#[cfg(all(feature = "eval", not(target_arch = "wasm32")))]
use crate::models::component::component_folder;
#[cfg(feature = "eval")]
use crate::weights::Checkpoint;
#[cfg(all(feature = "eval", not(target_arch = "wasm32")))]
use crate::weights::{NewTensor, Values, to_bytes};

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

/// What an operation of a component comes to.
pub enum Evaluation {
    /// Results that needed no device.
    Done(Vec<Output>),
    /// A plan to run.
    Run(Run),
}

impl From<Run> for Evaluation {
    fn from(run: Run) -> Self {
        Self::Run(run)
    }
}

/// The results that outputs of a plan become together.
type Finish = Box<dyn FnOnce(Vec<Vec<f32>>) -> Vec<Output>>;

/// A plan with the values of its inputs, and what becomes of its outputs.
pub struct Run {
    graph: Graph,
    floats: Vec<(&'static str, Vec<f32>)>,
    indices: Vec<(&'static str, Vec<u32>)>,
    outputs: Vec<(Vec<String>, Finish)>,
}

impl Run {
    /// A plan with nothing to write or read yet.
    pub fn new(graph: Graph) -> Self {
        Self { graph, floats: Vec::new(), indices: Vec::new(), outputs: Vec::new() }
    }

    /// Gives the input `name` its values.
    #[must_use]
    pub fn write(mut self, name: &'static str, values: Vec<f32>) -> Self {
        self.floats.push((name, values));
        self
    }

    /// Gives the index input `name` its values.
    #[must_use]
    pub fn write_indices(mut self, name: &'static str, values: Vec<u32>) -> Self {
        self.indices.push((name, values));
        self
    }

    /// Makes the output `name` of the plan a result of these extents.
    #[must_use]
    pub fn output(self, name: &'static str, shape: &[usize]) -> Self {
        let shape = shape.to_vec();
        self.output_with(name, move |values| vec![Output { name, shape, values }])
    }

    /// Makes the output `name` of the plan what `finish` makes of its values.
    #[must_use]
    pub fn output_with(mut self, name: &'static str, finish: impl FnOnce(Vec<f32>) -> Vec<Output> + 'static) -> Self {
        self.outputs.push((vec![name.into()], Box::new(|mut values| finish(values.swap_remove(0)))));
        self
    }

    /// Makes several outputs of the plan what `finish` makes of the values of all.
    #[must_use]
    pub fn outputs_with(mut self, names: Vec<String>, finish: impl FnOnce(Vec<Vec<f32>>) -> Vec<Output> + 'static) -> Self {
        self.outputs.push((names, Box::new(finish)));
        self
    }

    async fn run(self, device: &Device) -> Result<Vec<Output>> {
        let mut exec = Executable::new(device, self.graph)?;
        for (name, values) in &self.floats {
            exec.write(name, values)?;
        }
        for (name, values) in &self.indices {
            exec.write_indices(name, values)?;
        }
        exec.run().await?;
        let mut outputs = Vec::new();
        for (names, finish) in self.outputs {
            let mut values = Vec::with_capacity(names.len());
            for name in &names {
                values.push(finite(&mut exec, name).await?);
            }
            outputs.extend(finish(values));
        }
        Ok(outputs)
    }
}

/// A result of a run, which must be finite.
async fn finite(exec: &mut Executable, name: &str) -> Result<Vec<f32>> {
    let values = exec.read(name).await?;
    let count = values.iter().filter(|v| !v.is_finite()).count();
    if count == 0 {
        return Ok(values);
    }
    // The first layer that is not finite says more than the last.
    exec.find_non_finite().await?;
    Err(Error::NonFinite { at: name.into(), count, total: values.len() })
}

/// Runs `operation` of `component` over `inputs`.
///
/// # Errors
/// [`Error::InvalidRequest`] for an operation or input the class does not have, [`Error::MissingTensor`],
/// [`Error::WrongShape`], [`Error::WrongDType`], and [`Error::Kernels`].
#[cfg(feature = "eval")]
pub async fn eval(component: &Component, operation: &str, inputs: &Checkpoint, device: &Device) -> Result<Vec<Output>> {
    #[cfg(feature = "families")]
    if let Component::Denoiser(denoiser) = component
        && let ("rollout", Some(causal)) = (operation, denoiser.causal())
    {
        return rollout::rollout(denoiser.as_ref(), causal, &Inputs::new(inputs), device).await;
    }
    let component = component.evaluate();
    if !component.operations().contains(&operation) {
        let expected = component.operations().join(" or ");
        return Err(Error::InvalidRequest { parameter: "op".into(), found: operation.into(), expected });
    }
    match component.evaluate(operation, &Inputs::new(inputs))? {
        Evaluation::Done(outputs) => Ok(outputs),
        Evaluation::Run(run) => run.run(device).await,
    }
}

/// [`eval`] over files: `kinora eval`.
#[cfg(all(feature = "eval", not(target_arch = "wasm32")))]
#[derive(Clone, Debug)]
pub struct EvalRequest {
    /// A model folder with `model_index.json`, a component folder with `config.json`, or a weight file that is recognised.
    pub model: PathBuf,
    /// Folder of the component inside a model folder.
    pub component: Option<String>,
    /// What to run of it: `forward`, or `encode` and `decode` of an autoencoder.
    pub operation: String,
    /// Safetensors file with the arguments.
    pub inputs: PathBuf,
    /// How matrices and convolutions are stored on the device.
    pub format: WeightFormat,
}

#[cfg(all(feature = "eval", not(target_arch = "wasm32")))]
impl EvalRequest {
    /// Runs the component and returns its results, and the safetensors file of them.
    ///
    /// # Errors
    /// As [`eval`], and those of missing and unreadable files.
    pub async fn run(&self, device: &Device) -> Result<(Vec<Output>, Vec<u8>)> {
        // Arguments first: a slip in them need not wait for the weights.
        let inputs = Checkpoint::open(&self.inputs)?;
        let component = if self.model.is_file() {
            Component::open_file(&self.model, self.component.as_deref(), self.format)?
        } else {
            Component::open(&component_folder(&self.model, self.component.as_deref())?, self.format)?
        };
        let outputs = eval(&component, &self.operation, &inputs, device).await?;
        let tensors: Vec<_> = outputs.iter().map(|o| NewTensor { name: o.name, shape: &o.shape, values: Values::F32(&o.values) }).collect();
        let file = to_bytes(&tensors)?;
        Ok((outputs, file))
    }
}
