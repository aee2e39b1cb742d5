//! Latents to frames: the last stage of a generation.

use kinora_kernels::{Cadence, CancelToken, Device, Executable, Graph, Plan};

use crate::error::{Error, Result};
use crate::executables::{Executables, Key};
use crate::models::family::Autoencoder;
use crate::sampling::tokens::channels_last;
use crate::shape::LatentShape;

/// The plan from `latents [1, F, H, W, C]` to `rgba [F', H'·W']`.
///
/// # Errors
/// [`Error::Kernels`] for latents the decoder cannot take.
pub(super) fn decode_plan(vae: &dyn Autoencoder, shape: LatentShape) -> Result<Graph> {
    let [f, h, w] = shape.grid;
    let plan = Plan::new();
    let z = plan.input("latents", &[1, f, h, w, shape.channels], Cadence::Once);
    let pixels = plan.scope("decoder", || vae.record_decode(&plan, vae.stats().denormalize(&plan, z)));
    let &[_, frames, height, width, colours] = pixels.shape().dims() else {
        return Err(Error::InvalidConfig { file: "vae".into(), problem: format!("the decoder makes {}", pixels.shape()) });
    };
    plan.output("rgba", pixels.reshape(&[frames, height, width, colours]).rgba());
    Ok(plan.finish()?)
}

/// Normalised latents `[1, C, F, H, W]` to RGBA bytes of each frame, row-major.
///
/// # Errors
/// [`Error::NonFinite`] naming the layer, [`Error::Cancelled`], [`Error::Kernels`].
pub(super) async fn decode_rgba(
    vae: &dyn Autoencoder,
    (device, executables): (&Device, &Executables),
    latents: &[f32],
    shape: LatentShape,
    cancel: &CancelToken,
) -> Result<Vec<Vec<u8>>> {
    let mut exec = executables.take(Key::Decode(shape), device, cancel, || decode_plan(vae, shape))?;
    exec.write("latents", &channels_last(latents, shape.extents()))?;
    exec.run().await?;
    let [_, rows, columns] = vae.compression();
    let frames = read_rgba(&mut exec, rows * columns * shape.grid[1] * shape.grid[2]).await?;
    executables.keep(exec);
    Ok(frames)
}

/// The output `rgba` of a plan as bytes of each frame of so many pixels.
///
/// # Errors
/// [`Error::NonFinite`] naming the layer, [`Error::Cancelled`], [`Error::Kernels`].
pub(super) async fn read_rgba(exec: &mut Executable, pixels: usize) -> Result<Vec<Vec<u8>>> {
    let rgba = exec.read_u32("rgba").await?;
    let failed = rgba.iter().filter(|pixel| **pixel >> 24 == 0).count();
    if failed > 0 {
        exec.find_non_finite().await?;
        return Err(Error::NonFinite { at: "frames".into(), count: failed, total: rgba.len() });
    }
    Ok(rgba.chunks_exact(pixels).map(|frame| bytemuck::cast_slice(frame).to_vec()).collect())
}
