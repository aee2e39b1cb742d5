//! [`Options`]: what a person asks for, in the words that the command, its batch lines and the npm package share.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::conditioning::Direction;
use crate::error::{Error, Result};
use crate::understanding::Wording;

/// What is asked for. Whatever is absent is decided by [`resolve`](Self::resolve).
///
/// Names are those of the npm package; flags of the command are the same with hyphens.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// What the clip shows. May be absent where images or clips are given.
    pub prompt: Option<String>,
    /// The prompt before somebody else expanded it.
    pub original_prompt: Option<String>,
    /// What it must not show. Default: nothing.
    pub negative: Option<String>,
    /// Read the prompt in the words of a model that lists them: off takes it as it is, on lets the seed choose the motion and the
    /// background that it leaves open. Default: the first motion and the first background.
    pub expand: Option<bool>,
    /// Chooses the noise. Default: 0; callers who want chance choose a seed by chance.
    pub seed: Option<u64>,

    /// Pixels. Default: the model's.
    pub width: Option<usize>,
    /// Pixels. Default: the model's.
    pub height: Option<usize>,
    /// Shape of the frame, at the model's usual number of pixels, instead of a size.
    pub aspect: Option<Aspect>,
    /// Frames; with a window those of the whole clip, which then may be any number; 0 goes on window after window until it is
    /// stopped. Default: the model's, or as many as a clip that is changed has, up to that.
    pub frames: Option<usize>,
    /// Seconds instead of frames, which they yield to: chooses the nearest number of frames that can be made.
    pub duration_seconds: Option<f64>,
    /// Frames per second of the finished clip. Default: the model's.
    pub fps: Option<f64>,
    /// Frames of each window that a longer clip is made of. Default: one window.
    pub window: Option<usize>,
    /// Factor of the finished clip's height and width, 1 or 2. Default: 1.
    pub upscale: Option<usize>,
    /// Factor of the finished clip's frames per second, 1 or 2: frames come between those that are generated. Default: 1.
    pub interpolate: Option<usize>,
    /// What happens next, in order: prompts that go on where the one before ends.
    pub then: Option<Vec<String>>,

    /// Denoising steps. Default: the model's.
    pub steps: Option<usize>,
    /// What leads from one noise level to the next, by its name in [`SOLVERS`](crate::sampling::solvers::SOLVERS). Default: the
    /// model's.
    pub sampler: Option<String>,
    /// Noise levels to start each step from, 1 first and falling, instead of a number of steps; shifted like others.
    pub sigmas: Option<Vec<f32>>,
    /// Shift of the noise schedule towards high noise. Default: the model's.
    pub shift: Option<f64>,
    /// Make steps in which the model would change its prediction by less than this share from the step before; 0 to 1. Takes 8
    /// steps or more. Default: compute all.
    pub step_cache: Option<f32>,
    /// Classifier-free guidance; 1 turns it off. Default: the model's.
    pub guidance: Option<f32>,
    /// How guidance grows while noise falls. Default: constant.
    pub guidance_curve: Option<CurveName>,
    /// Power of the cosine of [`CurveName::PowerCosine`]. Default: 4.
    pub guidance_power: Option<f32>,
    /// Noise levels that are guided, from 0 (clip) to 1 (noise). Default: all.
    pub guidance_interval: Option<[f32; 2]>,
    /// Guide the first so many latent channels alone. Default: all.
    pub guidance_channels: Option<usize>,
    /// How far guided steps get back the contrast they would have without guidance, 0 to 1. Default: 0.
    pub guidance_rescale: Option<f32>,

    /// Make what comes after the given clip, or what came before it.
    pub extend: Option<Direction>,
    /// Make what leads from the end of the given clip to its start.
    #[serde(rename = "loop")]
    pub repeat: Option<bool>,
    /// How much of what is given stays: 1 all, 0 nothing. Default: 1, where a clip is changed 0.4, inside a mask 0.
    pub strength: Option<f32>,
    /// How strongly a second branch of the model steers, which is given the clip: 1 in full. Default: the model's.
    pub conditioning_scale: Option<f32>,
    /// Frames that new frames have in common with what they follow or lead to. Default: 5.
    pub overlap: Option<usize>,
    /// Colour behind transparent images. Default: white.
    pub background: Option<Colour>,

    /// Show the first frame as predicted after every so many steps; 0 for never. Default: 2.
    pub preview_every: Option<usize>,
    /// Frames of a preview, from the first to the last: the first decoded, the others guessed. Default: the first alone.
    pub preview_frames: Option<usize>,

    /// What the prompts became, by [`understand`](Self::understand).
    #[serde(skip)]
    pub wording: Option<Wording>,
    /// The prompts that go on, as they were written.
    #[serde(skip)]
    pub original_then: Option<Vec<String>>,
}

impl Options {
    /// The names of all options.
    ///
    /// # Panics
    /// Never: options are a plain object.
    pub fn names() -> Vec<String> {
        let plain = serde_json::to_value(Self::default()).expect("a plain object");
        plain.as_object().into_iter().flat_map(|options| options.keys().cloned()).collect()
    }
}

/// Shapes of a frame that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Aspect {
    /// Of most screens.
    #[serde(rename = "16:9")]
    Wide,
    /// Of telephones.
    #[serde(rename = "9:16")]
    Tall,
    /// As wide as high.
    #[serde(rename = "1:1")]
    Square,
    /// Of old screens.
    #[serde(rename = "4:3")]
    Classic,
    /// Of old screens on their side.
    #[serde(rename = "3:4")]
    Portrait,
    /// Of films.
    #[serde(rename = "21:9")]
    Cinema,
}

impl Aspect {
    /// The names of all.
    pub const NAMES: [&'static str; 6] = ["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"];

    /// Width and height.
    pub fn ratio(self) -> [usize; 2] {
        match self {
            Self::Wide => [16, 9],
            Self::Tall => [9, 16],
            Self::Square => [1, 1],
            Self::Classic => [4, 3],
            Self::Portrait => [3, 4],
            Self::Cinema => [21, 9],
        }
    }
}

/// [`Curve`](crate::sampling::guidance::Curve) by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CurveName {
    /// The scale throughout.
    Constant,
    /// From none straight to the scale.
    Linear,
    /// From none to the scale, late for a high power.
    PowerCosine,
}

impl CurveName {
    /// The names of all.
    pub const NAMES: [&'static str; 3] = ["constant", "linear", "power-cosine"];
}

/// An opaque colour in sRGB, written `RRGGBB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// White.
    pub const WHITE: Self = Self([255; 3]);
}

impl FromStr for Colour {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix('#').unwrap_or(text);
        let is_hex = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let value = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex);
        let [_, r, g, b] = value.ok_or_else(|| super::invalid("background", &format!("`{text}`"), "RRGGBB, like ff8000"))?.to_be_bytes();
        Ok(Self([r, g, b]))
    }
}

impl TryFrom<String> for Colour {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Colour> for String {
    fn from(Colour([r, g, b]): Colour) -> Self {
        format!("{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_json_calls_them() {
        let read = |json: &str| serde_json::from_str::<Options>(json).map_err(|error| error.to_string());
        let found = read(r##"{"loop": true, "aspect": "21:9", "guidanceCurve": "power-cosine", "background": "#0080ff", "fps": null}"##);
        let expected = Options {
            repeat: Some(true),
            aspect: Some(Aspect::Cinema),
            guidance_curve: Some(CurveName::PowerCosine),
            background: Some(Colour([0, 128, 255])),
            ..Options::default()
        };
        assert_eq!(found, Ok(expected));
        for (json, part) in [
            (r#"{"stepss": 4}"#, "stepss"),
            (r#"{"aspect": "2:1"}"#, "2:1"),
            (r#"{"background": "red"}"#, "RRGGBB"),
            (r#"{"background": "+12345"}"#, "RRGGBB"),
            (r#"{"steps": -1}"#, "-1"),
        ] {
            let problem = read(json).expect_err(json);
            assert!(problem.contains(part), "{json}: {problem}");
        }
        assert!(Options::names().contains(&"durationSeconds".to_owned()), "{:?}", Options::names());
    }

    #[test]
    fn lists_of_names_are_complete() {
        let name = |value: serde_json::Result<String>| value.expect("a name");
        for text in Aspect::NAMES {
            let aspect: Aspect = serde_json::from_value(text.into()).expect(text);
            let [width, height] = aspect.ratio();
            assert_eq!(text, format!("{width}:{height}"));
        }
        for text in CurveName::NAMES {
            let curve: CurveName = serde_json::from_value(text.into()).expect(text);
            assert_eq!(name(serde_json::to_string(&curve)), format!("\"{text}\""));
        }
    }
}
