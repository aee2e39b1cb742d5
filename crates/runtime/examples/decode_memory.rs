//! Decodes latents of noise with an autoencoder and says what the device held: `decode_memory FOLDER WIDTH HEIGHT FRAMES [dry]`.
//! `tests/golden/vae_true_size.py` writes folders of true size with random weights.

use std::path::Path;
use std::time::Instant;

use kinora_runtime::executables::Executables;
use kinora_runtime::models::component::Component;
use kinora_runtime::models::family::Direction;
use kinora_runtime::pipeline::Coder;
use kinora_runtime::shape::LatentShape;
use kinora_runtime::{AdapterSelect, Budget, CancelToken, Device, Error, Result, WeightFormat};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, width, height, frames, dry @ ..] = words.as_slice() else {
        eprintln!("decode_memory FOLDER WIDTH HEIGHT FRAMES [dry]");
        return Ok(());
    };
    let number = |text: &String| text.parse::<usize>().unwrap_or(1);
    let [width, height, frames] = [width, height, frames].map(number);
    let device = pollster::block_on(Device::gpu(&AdapterSelect::Auto, None)).map_err(Error::from)?;
    let Component::Autoencoder(vae) = Component::open(Path::new(folder), WeightFormat::F16)? else { return Ok(()) };
    let [t, h, w] = vae.compression();
    let shape = LatentShape { channels: vae.latent_channels(), grid: [1 + (frames - 1) / t, height / h, width / w] };
    let executables = Executables::default();
    let coder = Coder { vae: vae.as_ref(), device: &device, executables: &executables, budget: Budget::default() };
    println!("{}: {:?} latents, {:?}", device.name(), shape.grid, coder.memory(Direction::Decode, shape)?);
    if !dry.is_empty() {
        return Ok(());
    }
    let latents: Vec<f32> = (0..shape.elements()).map(|i| (i as f32 * 0.618).sin()).collect();
    let (begun, mut made) = (Instant::now(), 0);
    let sink = &mut async |_| {
        made += 1;
        let memory = device.memory();
        println!(
            "frame {made}: {} MB live, {} MB at most, {} s",
            memory.live / 1_000_000,
            memory.peak / 1_000_000,
            begun.elapsed().as_secs()
        );
        Ok(())
    };
    pollster::block_on(coder.decode(&latents, shape, &CancelToken::default(), sink))
}
