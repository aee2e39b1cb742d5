//! [`CatmullRom`]: frames of twice the size without weights, as a guess for networks to correct and for models without one.

use kinora_kernels::op::Padding;
use kinora_kernels::{Conv3dOptions, PatchOrder, Shape, Tensor, Weight, WeightFormat};

use crate::nn::Conv3d;

/// The kernel a quarter of a pixel behind a pixel, over that before it, itself and the two after it. In f16 exact.
const TAPS: [f32; 4] = [-9.0 / 128.0, 111.0 / 128.0, 29.0 / 128.0, -3.0 / 128.0];

/// Interpolation along columns, then along rows.
pub struct CatmullRom([Conv3d; 2]);

impl CatmullRom {
    /// For frames of three colours.
    pub fn new(format: WeightFormat) -> Self {
        Self([lines("rows", 3, [5, 1], format), lines("columns", 6, [1, 5], format)])
    }

    /// `[B, F, H, W, 3]` → `[B, F, 2H, 2W, 3]`, with the border repeated.
    pub fn forward<'p>(&self, frames: Tensor<'p>) -> Tensor<'p> {
        self.0.iter().fold(frames, |x, pass| pass.forward(x)).pixel_shuffle_3d([1, 2, 2], PatchOrder::TimeHeightWidth)
    }
}

/// A convolution along one axis of space that makes two lines of each, as channels.
fn lines(name: &str, channels: usize, [height, width]: [usize; 2], format: WeightFormat) -> Conv3d {
    let mut values = vec![0.0; 2 * channels * channels * 5];
    for channel in 0..channels {
        for (k, tap) in TAPS.iter().enumerate() {
            // The first line lies a quarter before the pixel, the second a quarter behind it: each other's mirror image.
            let [before, behind] = [2 * channel, 2 * channel + 1].map(|output| (output * channels + channel) * 5);
            values[before + 3 - k] = *tap;
            values[behind + 1 + k] = *tap;
        }
    }
    let weight = Weight::from_f32(name, Shape::new(&[2 * channels, channels, 1, height, width]), &values, format);
    let bias = Weight::from_f32("zero", Shape::new(&[2 * channels]), &vec![0.0; 2 * channels], format);
    let half = [0, height / 2, width / 2];
    let options =
        Conv3dOptions { stride: [1; 3], front: half, back: half, time_padding: Padding::Replicate, space_padding: Padding::Replicate };
    Conv3d::new(name, weight, bias, options)
}
