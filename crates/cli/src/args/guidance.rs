//! Arguments for how strongly, when and where the prompt is followed.

use clap::Args;
use kinora_runtime::request::{CurveName, GUIDANCE, GUIDANCE_POWERS};

/// Classifier-free guidance.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GuidanceArgs {
    /// How strongly to follow the prompt; 1 turns guidance off [default: the model's]
    #[arg(help_heading = "Sampling", long, value_name = "SCALE", value_parser = |text: &str| super::parse_within(text, GUIDANCE))]
    pub(crate) guidance: Option<f32>,
    /// How guidance grows while noise falls [default: constant]
    #[arg(help_heading = "Sampling", long, value_name = "CURVE", value_parser = super::named::<CurveName>(&CurveName::NAMES))]
    pub(crate) guidance_curve: Option<CurveName>,
    /// Power of the cosine: higher is later [default: 4]
    #[arg(help_heading = "Sampling", long, value_name = "POWER", value_parser = |text: &str| super::parse_within(text, GUIDANCE_POWERS))]
    pub(crate) guidance_power: Option<f32>,
    /// Noise levels that are guided, from 0 (clip) to 1 (noise) [default: 0..1]
    #[arg(help_heading = "Sampling", long, value_name = "LOW..HIGH", value_parser = parse_interval)]
    pub(crate) guidance_interval: Option<Interval>,
    /// Guide the first N latent channels alone [default: all]
    #[arg(help_heading = "Sampling", long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) guidance_channels: Option<u32>,
    /// How far guided steps get back the contrast they would have without guidance, 0 to 1 [default: 0]
    #[arg(help_heading = "Sampling", long, value_name = "SHARE", value_parser = |text: &str| super::parse_within(text, 0f32..=1.0))]
    pub(crate) guidance_rescale: Option<f32>,
}

/// Bounds, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval(pub(crate) [f32; 2]);

fn parse_interval(text: &str) -> Result<Interval, String> {
    let wrong = || format!("`{text}` is not an interval; expected LOW..HIGH within 0..1, like 0.2..0.8");
    let (low, high) = text.split_once("..").ok_or_else(wrong)?;
    let bound = |text: &str| super::parse_within(text, 0.0..=1.0).map_err(|_| wrong());
    let bounds = [bound(low)?, bound(high)?];
    if bounds[0] > bounds[1] {
        return Err(wrong());
    }
    Ok(Interval(bounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_two_ordered_noise_levels() {
        assert_eq!(parse_interval("0.2..0.8"), Ok(Interval([0.2, 0.8])));
        for text in ["", "0.2", "0.8..0.2", "-1..1", "0..2", "a..b"] {
            assert!(parse_interval(text).is_err(), "`{text}` was accepted");
        }
    }
}
