//! A step cache (after `EasyCache`, arXiv 2507.02860): where a model would say nearly what it said before, the step is made from that.
//!
//! What a prediction v differs from its tokens x by hardly changes from step to step, and the steps that are computed tell how much v
//! changes with x. With x' and v' those of the last one that was computed, the change that computing another would show is about
//! rate · |x − x'| / |v'|. While that stays below a threshold, v is x + (v' − x').
//!
//! `EasyCache` adds up the changes from step to step, with predictions that were not computed among them; their rate then falls, and with
//! it what is computed.

use crate::error::{Error, Result};

/// With fewer steps none is like the one before.
pub const LEAST_STEPS: usize = 8;
/// Thresholds: the relative change of predictions that may add up without one being computed.
pub const THRESHOLDS: std::ops::RangeInclusive<f32> = 0.0..=1.0;
/// One of so many steps, from the first, is computed in any case: what a clip shows is decided there.
const SETTLING: usize = 6;

/// The last step that was computed.
#[derive(Clone, Debug, Default)]
pub(super) struct StepCache {
    /// What it began with `[R, C]`; nothing before the first.
    tokens: Vec<f32>,
    /// Its prediction `[R, C]`.
    prediction: Vec<f32>,
    /// How much predictions change where tokens change by 1; known after two.
    rate: Option<f64>,
}

impl StepCache {
    /// The prediction for `tokens` in step `at` of `steps`, if it need not be computed.
    pub(super) fn reuse(&self, tokens: &[f32], [at, steps]: [usize; 2], threshold: f32) -> Option<Vec<f32>> {
        let rate = self.rate.filter(|_| at >= steps.div_ceil(SETTLING) && at + 1 < steps)?;
        let change = rate * distance(tokens, &self.tokens) / size(&self.prediction);
        let difference = self.prediction.iter().zip(&self.tokens).map(|(v, x)| v - x);
        // One that is not a number is not below it.
        (change < f64::from(threshold)).then(|| tokens.iter().zip(difference).map(|(x, difference)| x + difference).collect())
    }

    /// Learns from a prediction that was computed.
    pub(super) fn learn(&mut self, tokens: Vec<f32>, prediction: Vec<f32>) {
        let rate = distance(&prediction, &self.prediction) / distance(&tokens, &self.tokens);
        self.rate = Some(rate).filter(|rate| rate.is_finite());
        (self.tokens, self.prediction) = (tokens, prediction);
    }
}

/// Refuses a threshold for a run of too few steps.
pub(crate) fn check(threshold: Option<f32>, steps: usize) -> Result<()> {
    if threshold.is_none() || steps >= LEAST_STEPS {
        return Ok(());
    }
    let expected = format!("{LEAST_STEPS} steps or more, or no step cache");
    Err(Error::InvalidRequest { parameter: "stepCache".into(), found: format!("{steps} steps"), expected })
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum()
}

fn size(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(v.abs())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model whose prediction is half its tokens, over steps of a tenth.
    fn reused(threshold: f32) -> Vec<usize> {
        let (mut cache, mut tokens, mut reused) = (StepCache::default(), vec![1.0f32; 4], Vec::new());
        for at in 0..12 {
            let prediction = match cache.reuse(&tokens, [at, 12], threshold) {
                Some(prediction) => {
                    reused.push(at);
                    prediction
                }
                None => {
                    let computed: Vec<f32> = tokens.iter().map(|x| 0.5 * x).collect();
                    cache.learn(tokens.clone(), computed.clone());
                    computed
                }
            };
            tokens.iter_mut().zip(prediction).for_each(|(x, v)| *x -= 0.1 * v);
        }
        reused
    }

    #[test]
    fn steps_are_reused_as_far_as_the_threshold_goes() {
        assert_eq!(reused(0.0), [0; 0], "no change is small enough");
        // Tokens shrink by a twentieth in a step, so predictions do.
        assert_eq!(reused(0.06), [2, 4, 6, 8, 10], "one at a time");
        assert_eq!(reused(1.0), [2, 3, 4, 5, 6, 7, 8, 9, 10], "all but the first two and the last");
    }

    #[test]
    fn a_reused_prediction_keeps_the_difference() {
        let mut cache = StepCache::default();
        cache.learn(vec![1.0, 2.0], vec![3.0, 3.0]);
        cache.learn(vec![1.5, 2.0], vec![3.5, 3.0]);
        // Rate 1: a change of 0.75 after a prediction of 6.5.
        assert_eq!(cache.reuse(&[1.75, 2.5], [5, 12], 0.12), Some(vec![3.75, 3.5]));
        assert_eq!(cache.reuse(&[1.75, 2.5], [5, 12], 0.11), None);
        assert_eq!(cache.reuse(&[1.75, 2.5], [1, 12], 1.0), None, "what a clip shows is decided there");
        assert_eq!(cache.reuse(&[1.75, 2.5], [11, 12], 1.0), None, "the last");
        assert_eq!(cache.reuse(&[f32::NAN, 2.5], [6, 12], 1.0), None, "what is not finite is computed");
    }

    #[test]
    fn what_does_not_move_teaches_nothing() {
        let mut cache = StepCache::default();
        cache.learn(vec![1.0], vec![1.0]);
        cache.learn(vec![1.0], vec![1.0]);
        assert_eq!(cache.reuse(&[1.0], [5, 12], 1.0), None);
    }

    #[test]
    fn few_steps_are_refused() {
        assert!(check(None, 1).is_ok() && check(Some(0.1), LEAST_STEPS).is_ok());
        assert!(check(Some(0.1), LEAST_STEPS - 1).is_err());
    }
}
