//! Frames to latents: how images and clips enter a generation.

use kinora_kernels::{Cadence, CancelToken, Device, Graph, Plan};

use crate::error::{Error, Result};
use crate::executables::{Executables, Key};
use crate::models::family::Autoencoder;
use crate::sampling::tokens::channels_first;
use crate::shape::LatentShape;

/// Red, green and blue.
const COLOURS: usize = 3;

/// The plan from `frames [1, F', H', W', 3]` to `moments [1, F, H, W, C or more]`, for latents of the extents of `shape`.
///
/// # Errors
/// [`Error::Kernels`] for frames the encoder cannot take.
pub(super) fn encode_plan(vae: &dyn Autoencoder, shape: LatentShape) -> Result<Graph> {
    let [frames, height, width] = frame_extents(vae, shape);
    let plan = Plan::new();
    let x = plan.input("frames", &[1, frames, height, width, COLOURS], Cadence::Once);
    plan.output("moments", plan.scope("encoder", || vae.record_encode(&plan, x)));
    Ok(plan.finish()?)
}

/// Frames, height and width of what is encoded to `shape`.
fn frame_extents(vae: &dyn Autoencoder, shape: LatentShape) -> [usize; 3] {
    let [time, rows, columns] = vae.compression();
    [1 + (shape.grid[0] - 1) * time, shape.grid[1] * rows, shape.grid[2] * columns]
}

/// Frames as RGBA bytes, `[height, width, 4]` each and as many as `shape` stands for, to normalised latents
/// `[1, C, F, H, W]`: the mean of the encoder's distribution, which involves no chance. Alpha is not looked at.
///
/// # Errors
/// [`Error::InvalidRequest`] for frames of another size or number, [`Error::NonFinite`] naming the layer,
/// [`Error::Cancelled`], [`Error::Kernels`].
pub(super) async fn encode_rgba(
    vae: &dyn Autoencoder,
    (device, executables): (&Device, &Executables),
    frames: &[&[u8]],
    shape: LatentShape,
    cancel: &CancelToken,
) -> Result<Vec<f32>> {
    let [count, height, width] = frame_extents(vae, shape);
    let bytes = height * width * 4;
    if frames.len() != count || frames.iter().any(|frame| frame.len() != bytes) {
        let sizes: Vec<usize> = frames.iter().map(|frame| frame.len()).collect();
        let expected = format!("{count} frames of {width}x{height} RGBA, {bytes} bytes each");
        return Err(Error::InvalidRequest { parameter: "source frames".into(), found: format!("{sizes:?} bytes"), expected });
    }
    let mut exec = executables.take(Key::Encode(shape), device, cancel, || encode_plan(vae, shape))?;
    // Bytes 0..=255 become −1..=1, as the decoder's result is turned back.
    let signed = |byte: &u8| f32::from(*byte) / 127.5 - 1.0;
    let rgb: Vec<f32> =
        frames.iter().flat_map(|frame| frame.chunks_exact(4).flat_map(|pixel| pixel[..COLOURS].iter().map(signed))).collect();
    exec.write("frames", &rgb)?;
    exec.run().await?;
    let moments = exec.read("moments").await?;
    let (channels, pixels) = (vae.latent_channels(), shape.grid.iter().product::<usize>());
    let mut means: Vec<f32> = moments.chunks_exact(moments.len() / pixels).flat_map(|moment| moment[..channels].iter().copied()).collect();
    let count = means.iter().filter(|v| !v.is_finite()).count();
    if count > 0 {
        exec.find_non_finite().await?;
        return Err(Error::NonFinite { at: "encoded frames".into(), count, total: means.len() });
    }
    executables.keep(exec);
    vae.stats().normalize(&mut means);
    Ok(channels_first(&means, shape.extents()))
}
