//! Feed-forward layers.

use kinora_kernels::Tensor;
use kinora_kernels::op::Activation;

use super::Linear;

/// Applies a pointwise function.
pub fn activate(x: Tensor<'_>, activation: Activation) -> Tensor<'_> {
    match activation {
        Activation::None => x,
        Activation::GeluTanh => x.gelu_tanh(),
        Activation::GeluErf => x.gelu_erf(),
        Activation::Silu => x.silu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
    }
}

/// The function that configurations of transformers call `name`.
pub fn activation_from_name(name: &str) -> Option<Activation> {
    match name {
        "relu" => Some(Activation::Relu),
        "gelu" => Some(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
        "silu" | "swish" => Some(Activation::Silu),
        _ => None,
    }
}

/// `down(act(up(x)))`.
pub struct Mlp {
    up: Linear,
    activation: Activation,
    /// s, where the function is `act(s·x)/s`.
    stretch: Option<f32>,
    down: Linear,
}

impl Mlp {
    /// Puts the layer together.
    pub fn new(up: Linear, activation: Activation, down: Linear) -> Self {
        Self { up, activation, stretch: None, down }
    }

    /// The same with `act(s·x)/s` in place of the activation: of `SiLU`, at 1.702, that is `quick_gelu`, `x·sigmoid(1.702·x)`.
    #[must_use]
    pub fn stretched(self, stretch: Option<f32>) -> Self {
        Self { stretch, ..self }
    }

    /// `[.., K]` → `[.., N]`.
    pub fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let x = self.up.forward(x);
        self.down.forward(match self.stretch {
            None => activate(x, self.activation),
            Some(stretch) => activate(x.affine(stretch, 0.0), self.activation).affine(1.0 / stretch, 0.0),
        })
    }
}

/// `down(act(gate(x)) · up(x))` (GLU variants, arXiv 2002.05202).
pub struct GatedMlp {
    gate: Linear,
    activation: Activation,
    up: Linear,
    down: Linear,
}

impl GatedMlp {
    /// Puts the layer together.
    pub fn new(gate: Linear, activation: Activation, up: Linear, down: Linear) -> Self {
        Self { gate, activation, up, down }
    }

    /// `[.., K]` → `[.., N]`.
    pub fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let gate = activate(self.gate.forward(x), self.activation);
        self.down.forward(gate * self.up.forward(x))
    }
}
