//! Linear layers, alone or several of one input stacked into one.

use kinora_kernels::{Tensor, Weight};

use super::Weights;
use crate::error::{Error, Result};

/// `y = x · wᵀ + b`.
pub struct Linear {
    name: String,
    weight: Weight,
    bias: Option<Weight>,
}

impl Weights<'_> {
    /// The linear layer `name` of `inputs` → `outputs` channels, with bias.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`].
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        self.linear_stack(&[name], inputs, outputs, true)
    }

    /// Several linear layers of one input as one: their outputs lie side by side and are taken apart by
    /// [`Tensor::split`]. Each has `outputs` channels; all have a bias or none.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn linear_stack(&self, names: &[&str], inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        let parts = |suffix: &str, dims: &[usize]| -> Result<Weight> {
            let parts = names.iter().map(|name| self.tensor(&format!("{name}.{suffix}"), dims)).collect::<Result<Vec<_>>>()?;
            stack(&parts)
        };
        let weight = parts("weight", &[outputs, inputs])?;
        let bias = bias.then(|| parts("bias", &[outputs])).transpose()?;
        Ok(Linear { name: names.join("+"), weight, bias })
    }
}

/// One weight of several whose shapes have been checked.
pub(super) fn stack(parts: &[Weight]) -> Result<Weight> {
    match parts {
        [one] => Ok(one.clone()),
        _ => Weight::stack(parts).ok_or_else(|| Error::InvalidConfig {
            file: parts.first().map_or_else(String::new, |w| w.name().into()),
            problem: "tensors to stack differ in shape or there are none".into(),
        }),
    }
}

impl Linear {
    /// A layer of this weight `[N, K]` and bias `[N]`.
    pub fn new(name: &str, weight: Weight, bias: Option<Weight>) -> Self {
        Self { name: name.into(), weight, bias }
    }

    /// `[.., K]` → `[.., N]`.
    pub fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        x.plan().scope(self.name.as_str(), || x.linear(&self.weight, self.bias.as_ref()))
    }
}
