//! What the fixture tests do on one device, natively and in a browser: nothing here reads files or blocks a thread.

use kinora_kernels::Device;
use kinora_runtime::eval::{Output, eval};
use kinora_runtime::models::component::Component;
use kinora_runtime::weights::Checkpoint;

/// `Σ(a − b)² / Σb²`.
pub(crate) fn nmse(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len(), "number of values");
    let square = |v: f64| v * v;
    let error: f64 = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    error / expected.iter().map(|b| square(f64::from(*b))).sum::<f64>().max(f64::MIN_POSITIVE)
}

/// What a case called so runs.
pub(crate) fn operation(case: &str) -> &str {
    case.split('_').next().filter(|first| ["encode", "decode", "rollout"].contains(first)).unwrap_or("forward")
}

/// The NMSE of every result of a case.
pub(crate) async fn errors(
    model: &Component,
    case: &str,
    inputs: &Checkpoint,
    expected: &Checkpoint,
    device: &Device,
) -> Result<Vec<(&'static str, f64)>, String> {
    let outputs = eval(model, operation(case), inputs, device).await.map_err(|error| error.to_string())?;
    if outputs.len() != expected.names().count() {
        return Err(format!("{} results, expected {}", outputs.len(), expected.names().count()));
    }
    let error = |Output { name, shape, values }: &Output| {
        let expected = expected.f32(name, shape).map_err(|error| error.to_string())?;
        Ok((*name, nmse(values, &expected)))
    };
    outputs.iter().map(error).collect()
}
