//! Every function of one value over every number that f16 and bf16 can hold.

mod support;

use half::{bf16, f16};
use kinora_kernels::{Device, Plan, Tensor};
use support::{devices, run};

type Unary = for<'p> fn(Tensor<'p>) -> Tensor<'p>;

const UNARY: [(&str, Unary); 6] = [
    ("affine", |x| x.affine(2.0, 1.0)),
    ("gelu_tanh", |x| x.gelu_tanh()),
    ("gelu_erf", |x| x.gelu_erf()),
    ("silu", |x| x.silu()),
    ("relu", |x| x.relu()),
    ("tanh", |x| x.tanh()),
];

/// WGSL allows `tanh` an absolute error of 1e-5, and `exp` some units in the last place more the further out; gelu multiplies by x.
fn is_close(x: f32, found: f32, expected: f32) -> bool {
    if !expected.is_finite() {
        // NaN stays NaN; of an infinity nothing finite comes.
        return !found.is_finite() && (found.is_nan() || !x.is_nan());
    }
    (found - expected).abs() <= 2e-5 * expected.abs().max(1e-1 * x.abs().min(10.0)) + 1e-6
}

#[test]
fn every_half_precision_number_has_the_function_of_the_twin() {
    let bits = || 0..=u16::MAX;
    let values: Vec<f32> =
        bits().map(|bits| f16::from_bits(bits).to_f32()).chain(bits().map(|bits| bf16::from_bits(bits).to_f32())).collect();
    for (name, unary) in UNARY {
        let plan = Plan::new();
        plan.output("y", unary(plan.constant(&[values.len() / 64, 64], &values)));
        let graph = plan.finish().expect("valid");
        let expected = run(&Device::cpu(), &graph, &[]);
        for device in devices() {
            let found = run(device, &graph, &[]);
            let wrong = (0..values.len()).find(|&at| !is_close(values[at], found[at], expected[at]));
            if let Some(at) = wrong {
                panic!("{name}({:e}) is {:e} on {}, the twin says {:e}", values[at], found[at], device.name(), expected[at]);
            }
        }
    }
}
