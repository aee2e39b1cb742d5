//! Classifier-free guidance as data: how strongly a step follows the prompt, by its noise level.

use crate::error::{Error, Result};

/// `u + w·(c − u)` of conditional and unconditional velocity (arXiv 2207.12598), with w depending on σ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// w at its strongest; 1 is the prompt alone.
    pub scale: f32,
    /// How w gets there as noise falls.
    pub curve: Curve,
    /// σ outside these bounds, both included, are not guided (arXiv 2404.07724).
    pub interval: [f32; 2],
    /// Latent channels that are guided, counted from the first; all if absent.
    pub channels: Option<usize>,
    /// How far the guided velocity gets the deviation of the conditional one back: 0 not at all, 1 entirely (φ of arXiv
    /// 2305.08891 §3.4, `guidance_rescale` of `LTXPipeline`). Strong guidance otherwise oversaturates.
    pub rescale: f32,
}

/// w over what is left of a run, from 1 (noise) to 0 (video): σ of flow, the share of timesteps of diffusion.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Curve {
    /// The scale throughout.
    #[default]
    Constant,
    /// From 1 at the first straight to the scale at the last.
    Linear,
    /// From 1 to the scale as `(1 − cos(π·(1 − s)^power)) / 2`, late for a high power (`MDTv2`, arXiv 2303.14389).
    PowerCosine {
        /// 4 in `MDTv2`.
        power: f32,
    },
}

impl From<f32> for Guidance {
    /// The same scale at every σ, on all channels, not rescaled.
    fn from(scale: f32) -> Self {
        Self { scale, curve: Curve::Constant, interval: [0.0, 1.0], channels: None, rescale: 0.0 }
    }
}

impl Guidance {
    /// w at noise level σ, by the [share](super::schedule::Schedule::share) of a run that is left there.
    pub fn at(&self, sigma: f32, left: f32) -> f32 {
        let [low, high] = self.interval;
        if !(low..=high).contains(&sigma) {
            return 1.0;
        }
        let share = match self.curve {
            Curve::Constant => 1.0,
            Curve::Linear => 1.0 - left,
            Curve::PowerCosine { power } => (1.0 - (std::f32::consts::PI * (1.0 - left).powf(power)).cos()) / 2.0,
        };
        1.0 + (self.scale - 1.0) * share
    }

    /// Whether the unconditional branch is never needed.
    pub fn is_off(&self) -> bool {
        self.scale == 1.0 || self.channels == Some(0)
    }

    /// # Errors
    /// [`Error::InvalidRequest`] for values that no step could use, of a model with so many latent channels.
    pub fn check(&self, latent_channels: usize) -> Result<()> {
        let wrong =
            |parameter: &str, found: String, expected: String| Err(Error::InvalidRequest { parameter: parameter.into(), found, expected });
        let [low, high] = self.interval;
        if !self.scale.is_finite() {
            return wrong("guidance", self.scale.to_string(), "a finite number, 1 for none".into());
        }
        if !(0.0..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
            return wrong("guidance interval", format!("{low} to {high}"), "two noise levels from 0 to 1, the lower first".into());
        }
        if let Curve::PowerCosine { power } = self.curve
            && !(power.is_finite() && power > 0.0)
        {
            return wrong("guidance curve", format!("power {power}"), "a power above 0".into());
        }
        if !(0.0..=1.0).contains(&self.rescale) {
            return wrong("guidance rescale", self.rescale.to_string(), "a share from 0 to 1".into());
        }
        if let Some(channels) = self.channels.filter(|n| *n > latent_channels) {
            return wrong("guidance channels", channels.to_string(), format!("at most the model's {latent_channels} latent channels"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_have_their_closed_form() {
        let at = |curve, sigma| Guidance { curve, ..Guidance::from(5.0) }.at(0.5, sigma);
        assert_eq!([1.0, 0.5, 0.0].map(|s| at(Curve::Constant, s)), [5.0; 3], "constant");
        assert_eq!([1.0, 0.5, 0.25, 0.0].map(|s| at(Curve::Linear, s)), [1.0, 3.0, 4.0, 5.0], "linear");
        // (1 − cos π/2) / 2 = 1/2 where (1 − σ)^power = 1/2.
        for (power, sigma) in [(1.0, 0.5), (2.0, 1.0 - 0.5f32.sqrt()), (4.0, 1.0 - 0.5f32.powf(0.25))] {
            let found = [1.0, sigma, 0.0].map(|s| at(Curve::PowerCosine { power }, s));
            assert!(found.iter().zip([1.0, 3.0, 5.0]).all(|(a, b)| (a - b).abs() < 1e-5), "power {power}: {found:?}");
        }
    }

    #[test]
    fn steps_outside_the_interval_follow_the_prompt_alone() {
        let guidance = Guidance { interval: [0.2, 0.8], ..Guidance::from(3.0) };
        assert_eq!([1.0, 0.8, 0.5, 0.2, 0.1].map(|s| guidance.at(s, 0.5)), [1.0, 3.0, 3.0, 3.0, 1.0], "bounds included");
        assert_eq!(Guidance::from(1.0).at(0.5, 0.5), 1.0, "no guidance anywhere");
    }

    #[test]
    fn impossible_guidance_is_refused() {
        let base = Guidance::from(3.0);
        for wrong in [
            Guidance { scale: f32::NAN, ..base },
            Guidance { interval: [0.8, 0.2], ..base },
            Guidance { interval: [0.0, 1.5], ..base },
            Guidance { curve: Curve::PowerCosine { power: 0.0 }, ..base },
            Guidance { channels: Some(33), ..base },
            Guidance { rescale: 1.5, ..base },
            Guidance { rescale: f32::NAN, ..base },
        ] {
            assert_eq!(wrong.check(32).map_err(|e| e.code()), Err("invalid-request"), "{wrong:?}");
        }
        assert!(base.check(32).is_ok() && !base.is_off() && Guidance { channels: Some(0), ..base }.is_off(), "possible");
    }
}
