//! A whole clip by its stages.

use std::time::Instant;

use kinora_kernels::CancelToken;
use kinora_runtime::{Event, Result, VideoPipeline};

use crate::meter::Spread;

/// The clip that a model makes without options, by its stages, each in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Its width, height and frames.
    pub size: [usize; 3],
    /// Denoising steps.
    pub steps: usize,
    /// The first one, in which kernels are compiled and memory is allocated.
    pub first: f64,
    /// Those after it.
    pub whole: f64,
    /// Reading the prompt, for the first clip: later ones of the same words have it.
    pub text: f64,
    /// A step that is not the first.
    pub step: f64,
    /// From the last step to the last frame.
    pub decode: f64,
}

/// Clips after the first one.
const ROUNDS: usize = 3;

/// When the stages of a clip were over, in seconds from its beginning.
#[derive(Default)]
struct Times {
    text: f64,
    steps: Vec<f64>,
    end: f64,
}

pub(crate) async fn measure(pipeline: &VideoPipeline) -> Result<Clip> {
    let request = pipeline.request("a small clip");
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        let (begun, mut times) = (Instant::now(), Times::default());
        let on_event = &mut |event| {
            let now = begun.elapsed().as_secs_f64();
            match event {
                Event::Text { .. } => times.text = now,
                Event::Step { .. } => times.steps.push(now),
                _ => {}
            }
        };
        pipeline.generate(&request, &CancelToken::default(), on_event).await?;
        times.end = begun.elapsed().as_secs_f64();
        rounds.push(times);
    }
    Ok(summary([request.width, request.height, request.frames], &rounds))
}

/// Of at least two clips.
fn summary(size: [usize; 3], rounds: &[Times]) -> Clip {
    let (first, later) = (&rounds[0], &rounds[1..]);
    let median = |value: &dyn Fn(&Times) -> f64| Spread::of(later.iter().map(value).collect()).median * 1e3;
    let last = |times: &Times| times.steps.last().copied().unwrap_or(times.text);
    let steps = later.iter().flat_map(|times| times.steps.windows(2).map(|pair| pair[1] - pair[0]));
    // A single step has none after it.
    let step = match steps.collect::<Vec<_>>() {
        steps if steps.is_empty() => median(&|times| last(times) - times.text),
        steps => Spread::of(steps).median * 1e3,
    };
    Clip {
        size,
        steps: first.steps.len(),
        first: first.end * 1e3,
        whole: median(&|times| times.end),
        text: first.text * 1e3,
        step,
        decode: median(&|times| times.end - last(times)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_told_apart() {
        let times = |text, steps: &[f64], end| Times { text, steps: steps.to_vec(), end };
        let rounds =
            [times(5.0, &[9.0, 10.0], 20.0), times(1.0, &[3.0, 5.0], 9.0), times(1.0, &[3.0, 6.0], 10.0), times(2.0, &[4.0, 5.0], 8.0)];
        let clip = summary([1; 3], &rounds);
        let expected = Clip { size: [1; 3], steps: 2, first: 20e3, whole: 9e3, text: 5e3, step: 2e3, decode: 4e3 };
        assert_eq!(clip, expected, "medians of the later ones");
        assert_eq!(summary([1; 3], &[times(1.0, &[2.0], 3.0), times(1.0, &[4.0], 5.0)]).step, 3e3, "a single step");
    }
}
