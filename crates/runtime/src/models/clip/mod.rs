//! CLIP (arXiv 2103.00020), whose vision transformer describes pictures to models of images to video, and its text transformer prompts.

mod config;
mod layouts;
mod processor;
#[cfg(feature = "images")]
mod text;
mod vision;

pub use config::VisionConfig;
#[cfg(feature = "images")]
pub use text::{Text, TextConfig};
pub use vision::Vision;

use kinora_kernels::op::Activation;
use kinora_kernels::{Cadence, Plan, Tensor};

use super::component::Component;
use super::family::{ComponentClass, Evaluate, Family, ImageEncoder};
use super::layout::known;
use crate::error::Result;
use crate::eval::{Evaluation, Inputs, Run};
use crate::nn::activation_from_name;

/// CLIP.
pub const FAMILY: Family = Family {
    name: "clip",
    layouts: known(layouts::LAYOUTS),
    pipelines: &[],
    components: &[
        #[cfg(feature = "images")]
        ComponentClass { name: "CLIPTextModel", load: |source| Ok(Component::TextEncoder(Box::new(Text::load_from(source)?))) },
        #[cfg(feature = "images")]
        ComponentClass {
            name: "CLIPTextModelWithProjection",
            load: |source| {
                // As that of pictures.
                source.weights.ignore("text_projection.");
                Ok(Component::TextEncoder(Box::new(Text::load_from(source)?)))
            },
        },
        ComponentClass { name: "CLIPVisionModel", load: |source| Ok(Component::ImageEncoder(Box::new(Vision::load_from(source)?))) },
        ComponentClass {
            name: "CLIPVisionModelWithProjection",
            load: |source| {
                // What the projection makes is compared with texts and seen by no denoiser.
                source.weights.ignore("visual_projection.");
                Ok(Component::ImageEncoder(Box::new(Vision::load_from(source)?)))
            },
        },
    ],
};

/// The function that a configuration calls `name`, and how far it is [stretched](crate::nn::Mlp::stretched).
fn activation(name: &str) -> Option<(Activation, Option<f32>)> {
    match name {
        "quick_gelu" => Some((Activation::Silu, Some(1.702))),
        _ => Some((activation_from_name(name)?, None)),
    }
}

impl ImageEncoder for Vision {
    fn width(&self) -> usize {
        self.config().hidden_size
    }

    fn tokens(&self) -> usize {
        self.config().tokens()
    }

    fn patch_features(&self) -> usize {
        self.config().patch_features()
    }

    fn patches(&self, rgba: &[u8], size: [usize; 2]) -> Vec<f32> {
        let edge = self.config().image_size;
        self.config().patches(&processor::normalised(rgba, size, edge))
    }

    /// The input of the last layer, as the denoisers that look at it were trained with.
    fn record<'p>(&self, plan: &'p Plan, patches: Tensor<'p>) -> Tensor<'p> {
        self.forward(plan, patches)
    }
}

impl Evaluate for Vision {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `CLIPVisionModel.forward` with `output_hidden_states`: `penultimate` is `hidden_states[-2]`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["pixel_values"])?;
        let config = self.config();
        let (pixels, [images, _, _, _]) = inputs.ranked("pixel_values", "[B, C, H, W]")?;
        pixels.expect_shape(&[images, config.num_channels, config.image_size, config.image_size])?;
        let each = config.num_channels * config.image_size * config.image_size;
        let patches = pixels.to_f32().chunks_exact(each).flat_map(|image| config.patches(image)).collect();
        let plan = Plan::new();
        let rows = images * config.tokens();
        let penultimate = self.forward(&plan, plan.input("patches", &[rows, config.patch_features()], Cadence::Once));
        plan.output("penultimate", penultimate);
        plan.output("last_hidden_state", self.last_layer(&plan, penultimate));
        let shape = [images, config.tokens(), config.hidden_size];
        let run = Run::new(plan.finish()?).write("patches", patches);
        Ok(run.output("penultimate", &shape).output("last_hidden_state", &shape).into())
    }
}
