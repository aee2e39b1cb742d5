//! The denoising loop: noise to latents in the token space of the transformer, with guidance and given tokens.

use kinora_kernels::{Cadence, CancelToken, Device, Executable, Graph, Plan, Tensor};

use super::schedule::Schedule;
use crate::error::{Error, Result};
use crate::models::ltx::{TokenLayout, Transformer, TransformerInputs};
use crate::nn::embed::{TIMESTEP_FEATURES, timestep_features};

/// Text states of one prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextStates {
    /// `[T, Ct]`, row-major.
    pub states: Vec<f32>,
    /// 1 for tokens to attend to, 0 for padding; empty if there is no padding.
    pub mask: Vec<f32>,
}

/// Everything a denoising run is made of, for B clips of L tokens each.
pub struct Denoise<'a> {
    /// The model.
    pub transformer: &'a Transformer,
    /// The noise levels.
    pub schedule: &'a Schedule,
    /// Prompts of the B clips.
    pub prompts: &'a [TextStates],
    /// What to guide away from, one per clip; empty for no guidance.
    pub negatives: &'a [TextStates],
    /// Guidance: 1 is the prompt alone.
    pub guidance: f32,
    /// Rotary table `[L, D]`.
    pub rope: &'a [f32],
    /// Constant features `[L, Cc]` appended to each token; may be empty.
    pub coordinates: &'a [f32],
    /// Whether each of the B·L tokens is given, hence noise-free and kept; empty if none is.
    pub given: &'a [bool],
    /// Predict the clean tokens after every so many steps; 0 for never. Costs two small readbacks each time.
    pub predict_every: usize,
}

/// A finished denoising step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepDone {
    /// Which, from 1.
    pub step: usize,
    /// Of how many.
    pub steps: usize,
    /// The clean tokens `[B·L, C]` as the model predicts them now, where they were asked for.
    pub predicted: Option<Vec<f32>>,
}

impl Denoise<'_> {
    /// Turns `tokens [B·L, C]`, noise except where given, into latents. `on_step` hears of each finished step.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::NonFinite`] naming the layer, [`Error::Kernels`].
    pub async fn run(
        &self,
        device: &Device,
        tokens: &[f32],
        cancel: &CancelToken,
        on_step: &mut impl AsyncFnMut(StepDone) -> Result<()>,
    ) -> Result<Vec<f32>> {
        let rows = self.rows();
        let mut exec = Executable::new(device, self.plan()?)?.with_cancel(cancel.clone());
        exec.write("tokens", tokens)?;
        exec.write("guidance", &[self.guidance])?;
        exec.run_prelude().await?;
        let steps = self.schedule.num_steps();
        for (step, dt) in self.schedule.dts().enumerate() {
            // Row 0 of the timestep table is noise level 0, for given tokens; row 1 + i is step i.
            let row = |r: usize| if self.is_given(r) { 0 } else { 1 + step as u32 };
            let index: Vec<u32> = (0..self.branches()).flat_map(|_| (0..rows).map(row)).collect();
            let dts: Vec<f32> = (0..rows).map(|r| if self.is_given(r) { 0.0 } else { dt }).collect();
            // The last step's result is the clip itself.
            let predict = self.predict_every > 0 && (step + 1).is_multiple_of(self.predict_every) && step + 1 < steps;
            let before = if predict { Some(exec.read("latents").await?) } else { None };
            exec.write_indices("timestep_index", &index)?;
            exec.write("dt", &dts)?;
            exec.run_step().await?;
            if step + 1 < steps {
                exec.idle().await?;
            }
            let predicted = match before {
                Some(before) => Some(predict_clean(&before, &exec.read("latents").await?, dt, self.schedule.sigmas[step + 1])),
                None => None,
            };
            on_step(StepDone { step: step + 1, steps, predicted }).await?;
        }
        let latents = exec.read("latents").await?;
        if latents.iter().any(|v| !v.is_finite()) {
            exec.write("tokens", tokens)?;
            exec.find_non_finite().await?;
            let count = latents.iter().filter(|v| !v.is_finite()).count();
            return Err(Error::NonFinite { at: "latents".into(), count, total: latents.len() });
        }
        Ok(latents)
    }

    /// The plan of the run: text and timesteps in the prelude, one Euler step replayed.
    ///
    /// # Errors
    /// [`Error::Kernels`] if prompts, tokens and model do not fit each other.
    pub fn plan(&self) -> Result<Graph> {
        let plan = Plan::new();
        self.record(&plan, self.rows());
        Ok(plan.finish()?)
    }

    /// B·L.
    fn rows(&self) -> usize {
        self.prompts.len() * self.rope.len() / self.transformer.config().width()
    }

    fn is_given(&self, row: usize) -> bool {
        self.given.get(row).copied().unwrap_or(false)
    }

    fn branches(&self) -> usize {
        if self.negatives.is_empty() { 1 } else { 2 }
    }

    fn record(&self, plan: &Plan, rows: usize) {
        let config = self.transformer.config();
        let (branches, length) = (self.branches(), rows / self.prompts.len().max(1));
        let tokens = plan.state("tokens", &[rows, config.velocity_channels()]);
        let timesteps: Vec<f32> = [0.0].into_iter().chain(self.schedule.timesteps.iter().copied()).collect();
        let (states, mask, text) = self.text(plan);
        let velocity = self.transformer.forward(
            plan,
            &TransformerInputs {
                hidden_states: self.with_coordinates(plan, tokens, branches),
                encoder_hidden_states: states,
                encoder_mask: mask,
                timestep_features: plan.constant(&[timesteps.len(), TIMESTEP_FEATURES], &timestep_features(&timesteps)),
                timestep_index: plan.index_input("timestep_index", branches * rows, Cadence::EveryStep),
                rope: plan.constant(&[length, config.width()], self.rope),
                layout: TokenLayout { video: vec![length; text.len()], text },
            },
        );
        let dt = plan.input("dt", &[rows], Cadence::EveryStep);
        let guidance = plan.input("guidance", &[1], Cadence::Once);
        plan.output("latents", tokens.guided_euler_step(velocity, dt, guidance));
    }

    /// The tokens with their position features, once per branch of guidance.
    fn with_coordinates<'p>(&self, plan: &'p Plan, tokens: Tensor<'p>, branches: usize) -> Tensor<'p> {
        let rows = tokens.rows();
        let length = rows / self.prompts.len().max(1);
        let tokens = if self.coordinates.is_empty() {
            tokens
        } else {
            let features: Vec<f32> = self.prompts.iter().flat_map(|_| self.coordinates.iter().copied()).collect();
            tokens.concat(plan.constant(&[rows, self.coordinates.len() / length], &features))
        };
        if branches == 1 {
            return tokens;
        }
        let index: Vec<u32> = (0..branches).flat_map(|_| 0..rows as u32).collect();
        tokens.gather_rows(plan.index_constant(&index))
    }

    /// Text of all sequences, conditional first: states, additive mask, tokens of each.
    fn text<'p>(&self, plan: &'p Plan) -> (Tensor<'p>, Option<Tensor<'p>>, Vec<usize>) {
        let channels = self.transformer.config().caption_channels;
        let all: Vec<&TextStates> = self.prompts.iter().chain(self.negatives).collect();
        let lengths: Vec<usize> = all.iter().map(|t| t.states.len() / channels).collect();
        let rows: usize = lengths.iter().sum();
        let states: Vec<f32> = all.iter().flat_map(|t| t.states.iter().copied()).collect();
        let masked = all.iter().any(|t| !t.mask.is_empty());
        let additive =
            all.iter().zip(&lengths).flat_map(|(t, n)| (0..*n).map(|i| (1.0 - t.mask.get(i).copied().unwrap_or(1.0)) * -10_000.0));
        let mask = masked.then(|| plan.constant(&[rows], &additive.collect::<Vec<f32>>()));
        (plan.constant(&[rows, channels], &states), mask, lengths)
    }
}

/// The clean tokens that a step from `before` to `after` points at: with velocity v = (after − before) / dt, the straight
/// path of rectified flow (arXiv 2209.03003, eq. 1) reaches σ = 0 at after − σ·v. Given tokens do not move and stay.
fn predict_clean(before: &[f32], after: &[f32], dt: f32, sigma: f32) -> Vec<f32> {
    before.iter().zip(after).map(|(before, after)| after - sigma * (after - before) / dt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_path_is_predicted_to_its_end() {
        // x(σ) = clean + σ·(noise − clean)
        let at = |sigma: f32| vec![2.0 + sigma * (5.0 - 2.0), -1.0];
        assert_eq!(predict_clean(&at(0.75), &at(0.5), -0.25, 0.5), [2.0, -1.0]);
    }
}
