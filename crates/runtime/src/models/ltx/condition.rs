//! What `LTXConditionPipeline` does otherwise than `LTXPipeline`: where tokens are in time, and its levels of noise.

use super::rope::{BASE_EXTENTS, Coordinates};
use crate::sampling::schedule::Levels;

/// Name of the class.
pub(super) const PIPELINE: &str = "LTXConditionPipeline";

/// The share of noise that is gone after the first half of the steps.
const THRESHOLD: f64 = 0.025;

/// Coordinates of a grid of tokens, the last axis fastest, whose first latent frame is frame `first` of the clip and stands for it alone.
/// Each other stands for so many, of which the first counts. `spacing` is that from one latent to the next, in seconds and pixels.
pub(super) fn coordinates(
    first: usize,
    [frames, height, width]: [usize; 3],
    spacing: [f32; 3],
    frames_per_latent: usize,
) -> Vec<Coordinates> {
    let seconds = spacing[0] / frames_per_latent as f32;
    let frame = |t: usize| first + (frames_per_latent * t + 1).saturating_sub(frames_per_latent);
    let time = |t: usize| frame(t) as f32 * seconds / BASE_EXTENTS[0];
    let space = |axis: usize, index: usize| index as f32 * spacing[axis] / BASE_EXTENTS[axis];
    let place = |t: usize| (0..height).flat_map(move |y| (0..width).map(move |x| [time(t), space(1, y), space(2, x)]));
    (0..frames).flat_map(place).collect()
}

/// `linear_quadratic_schedule` of the reference: slow at first, so that the layout has many steps. It hands them over as timesteps.
pub(super) fn levels(steps: usize) -> Levels {
    let (linear, all) = ((steps / 2) as f64, steps as f64);
    if steps < 2 {
        return Levels::Timesteps(vec![1000.0; steps]);
    }
    let (rest, excess) = (all - linear, linear - THRESHOLD * all);
    let quadratic = excess / (linear * rest * rest);
    let slope = THRESHOLD / linear - 2.0 * excess / (rest * rest);
    let clean = |i: usize| {
        let i = i as f64;
        if i < linear { i * THRESHOLD / linear } else { quadratic * i * i + slope * i + quadratic * linear * linear }
    };
    Levels::Timesteps((0..steps).map(|i| (1.0 - clean(i)) as f32 * 1000.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_reference() {
        let Levels::Timesteps(found) = levels(8) else { panic!("timesteps") };
        // `linear_quadratic_schedule(8) * 1000` of diffusers.
        let expected = [1000.0, 993.75, 987.5, 981.25, 975.0, 909.375, 725.0, 421.875];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3) && found.len() == 8, "{found:?}");
        assert_eq!(levels(1), Levels::Timesteps(vec![1000.0]), "a single step");
    }

    #[test]
    fn a_latent_frame_is_where_its_first_frame_is() {
        // Four frames in each latent, of which 25 are a second.
        for (first, expected) in [(0, [0.0, 1.0, 5.0]), (7, [7.0, 8.0, 12.0])] {
            let found = coordinates(first, [3, 1, 2], [4.0 / 25.0, 32.0, 32.0], 4);
            let times: Vec<f32> = found.iter().step_by(2).map(|at| at[0] * BASE_EXTENTS[0] * 25.0).collect();
            assert!(times.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-5), "from {first}: {times:?}");
            assert_eq!(found[1][1..], [0.0, 32.0 / 2048.0], "the second column");
        }
    }
}
