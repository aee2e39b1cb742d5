//! `scheduler_config.json` of any class: every field that a solver here reads; absent ones take the class's default there.

use serde::Deserialize;

use super::table::Prediction;
use crate::error::{Error, Result};

/// The fields of `scheduler_config.json`, and the file's name for errors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SchedulerFile {
    /// Path or name of the file.
    #[serde(skip)]
    pub file: String,
    /// The class that wrote it.
    #[serde(rename = "_class_name")]
    pub class_name: Option<String>,
    pub(in crate::sampling) num_train_timesteps: Option<usize>,
    // Flow.
    pub(in crate::sampling) shift: Option<f64>,
    pub(in crate::sampling) flow_shift: Option<f64>,
    pub(in crate::sampling) use_flow_sigmas: Option<bool>,
    pub(in crate::sampling) use_dynamic_shifting: Option<bool>,
    pub(in crate::sampling) base_shift: Option<f64>,
    pub(in crate::sampling) max_shift: Option<f64>,
    pub(in crate::sampling) base_image_seq_len: Option<u32>,
    pub(in crate::sampling) max_image_seq_len: Option<u32>,
    pub(in crate::sampling) invert_sigmas: Option<bool>,
    pub(in crate::sampling) shift_terminal: Option<f64>,
    pub(in crate::sampling) time_shift_type: Option<String>,
    pub(in crate::sampling) stochastic_sampling: Option<bool>,
    // Spacing of levels.
    pub(in crate::sampling) use_karras_sigmas: Option<bool>,
    pub(in crate::sampling) use_exponential_sigmas: Option<bool>,
    pub(in crate::sampling) use_beta_sigmas: Option<bool>,
    pub(in crate::sampling) use_lu_lambdas: Option<bool>,
    pub(in crate::sampling) sigma_min: Option<f64>,
    pub(in crate::sampling) sigma_max: Option<f64>,
    pub(in crate::sampling) final_sigmas_type: Option<String>,
    pub(in crate::sampling) interpolation_type: Option<String>,
    pub(in crate::sampling) timestep_type: Option<String>,
    pub(in crate::sampling) timestep_spacing: Option<String>,
    pub(in crate::sampling) steps_offset: Option<usize>,
    // Diffusion.
    pub(in crate::sampling) beta_start: Option<f64>,
    pub(in crate::sampling) beta_end: Option<f64>,
    pub(in crate::sampling) beta_schedule: Option<String>,
    pub(in crate::sampling) trained_betas: Option<Vec<f32>>,
    pub(in crate::sampling) rescale_betas_zero_snr: Option<bool>,
    pub(in crate::sampling) snr_shift_scale: Option<f64>,
    pub(in crate::sampling) set_alpha_to_one: Option<bool>,
    pub(in crate::sampling) prediction_type: Option<String>,
    pub(in crate::sampling) clip_sample: Option<bool>,
    pub(in crate::sampling) clip_sample_range: Option<f64>,
    pub(in crate::sampling) thresholding: Option<bool>,
    pub(in crate::sampling) variance_type: Option<String>,
    // Single classes.
    pub(in crate::sampling) algorithm_type: Option<String>,
    pub(in crate::sampling) solver_order: Option<usize>,
    pub(in crate::sampling) solver_type: Option<String>,
    pub(in crate::sampling) lower_order_final: Option<bool>,
    pub(in crate::sampling) euler_at_final: Option<bool>,
    pub(in crate::sampling) lambda_min_clipped: Option<f64>,
    pub(in crate::sampling) predict_x0: Option<bool>,
    pub(in crate::sampling) disable_corrector: Vec<usize>,
    pub(in crate::sampling) original_inference_steps: Option<usize>,
    pub(in crate::sampling) timestep_scaling: Option<f64>,
}

impl SchedulerFile {
    /// Reads the JSON of `file`. Python writes an unbounded `lambda_min_clipped` as `-Infinity`, which JSON does not have.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn from_json(json: &[u8], file: &str) -> Result<Self> {
        let text = String::from_utf8_lossy(json).replace(": -Infinity", ": null");
        let parsed: Self =
            crate::json::object(&text).map_err(|error| Error::InvalidConfig { file: file.into(), problem: error.to_string() })?;
        let parsed = Self { file: file.into(), ..parsed };
        if !(1..=100_000).contains(&parsed.train()) {
            return Err(parsed.invalid(format!("num_train_timesteps {} must lie in 1 to 100000", parsed.train())));
        }
        if parsed.thresholding == Some(true) {
            return Err(parsed.invalid("thresholding is true; only clip_sample is supported, which clamps to a fixed range"));
        }
        Ok(parsed)
    }

    /// Whether its levels lie on straight lines between clean and noise.
    pub fn is_flow(&self) -> bool {
        let class = self.class_name.as_deref().unwrap_or("FlowMatchEulerDiscreteScheduler");
        let flow_class = ["FlowM", "DMD", "RCM"].iter().any(|start| class.starts_with(start));
        flow_class || self.use_flow_sigmas == Some(true) || self.prediction_type.as_deref() == Some("flow_prediction")
    }

    /// The same with flow levels shifted by so much, however long the clip.
    #[must_use]
    pub fn with_shift(&self, shift: f64) -> Self {
        Self { shift: Some(shift), flow_shift: Some(shift), use_dynamic_shifting: Some(false), ..self.clone() }
    }

    /// Levels of training.
    pub(in crate::sampling) fn train(&self) -> usize {
        self.num_train_timesteps.unwrap_or(1000)
    }

    /// The static shift of flow levels, under either name.
    pub(in crate::sampling) fn static_shift(&self) -> f64 {
        self.flow_shift.or(self.shift).unwrap_or(1.0)
    }

    /// What the model predicts; ε where the file does not say.
    pub(in crate::sampling) fn prediction(&self) -> Result<Prediction> {
        match self.prediction_type.as_deref() {
            None if self.is_flow() => Ok(Prediction::Flow),
            None | Some("epsilon") => Ok(Prediction::Epsilon),
            Some("sample" | "original_sample") => Ok(Prediction::Sample),
            Some("v_prediction") => Ok(Prediction::Velocity),
            Some("flow_prediction") => Ok(Prediction::Flow),
            Some(other) => Err(self.unknown("prediction_type", other, "epsilon, sample, v_prediction or flow_prediction")),
        }
    }

    /// The bound of clean samples.
    pub(in crate::sampling) fn limit(&self, clip: bool) -> Option<f64> {
        self.clip_sample.unwrap_or(clip).then(|| self.clip_sample_range.unwrap_or(1.0))
    }

    /// An error of this file.
    pub(in crate::sampling) fn invalid(&self, problem: impl Into<String>) -> Error {
        Error::InvalidConfig { file: self.file.clone(), problem: problem.into() }
    }

    /// A value that no solver knows.
    pub(in crate::sampling) fn unknown(&self, key: &str, found: &str, known: &str) -> Error {
        self.invalid(format!("{key} is {found}; supported is {known}"))
    }

    /// The error of a model that predicts no variance for a solver that takes it.
    pub(crate) fn without_variance(&self) -> Error {
        let found = self.variance_type.as_deref().unwrap_or_default();
        self.unknown("variance_type", found, "fixed_small or fixed_large, since this model predicts no variance")
    }

    /// Refuses `key`, if it is set, unless it has one of the values of `known`.
    pub(in crate::sampling) fn only(&self, key: &str, value: Option<&str>, known: &[&str]) -> Result<()> {
        match value {
            Some(found) if !known.contains(&found) => Err(self.unknown(key, found, &known.join(" or "))),
            _ => Ok(()),
        }
    }
}
