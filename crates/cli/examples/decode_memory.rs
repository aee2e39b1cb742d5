//! Decodes latents of noise with an autoencoder, into a file where one is named, and says what the device and the host held:
//! `decode_memory FOLDER WIDTH HEIGHT FRAMES [FILE|dry]`. `tests/golden/vae_true_size.py` writes folders of true size with random
//! weights. The private memory of the host is what this process alone has in memory up to the last frame, without the buffers of the
//! device (a software adapter keeps them there too) and what there was when the adapter was open.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use kinora_media::{FrameRate, Head, Metadata, Output};
use kinora_runtime::executables::Executables;
use kinora_runtime::models::component::Component;
use kinora_runtime::models::family::Direction;
use kinora_runtime::pipeline::Coder;
use kinora_runtime::shape::LatentShape;
use kinora_runtime::{AdapterSelect, Budget, CancelToken, Device, Error as Failed, WeightFormat, host_memory};

/// How often the host's memory is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Private bytes that are no buffers of the device.
fn private(device: &Device) -> i64 {
    host_memory::private().unwrap_or_default() as i64 - device.memory().live as i64
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, width, height, frames, more @ ..] = words.as_slice() else {
        return Err("decode_memory FOLDER WIDTH HEIGHT FRAMES [FILE|dry]".into());
    };
    let [width, height, frames] = [width.parse::<usize>()?, height.parse::<usize>()?, frames.parse::<usize>()?];
    let device = pollster::block_on(Device::gpu(&AdapterSelect::Auto, None)).map_err(Failed::from)?;
    let baseline = private(&device);
    let Component::Autoencoder(vae) = Component::open(Path::new(folder), WeightFormat::F16)? else { return Err("no autoencoder".into()) };
    let [t, h, w] = vae.compression();
    let shape = LatentShape { channels: vae.latent_channels(), grid: [1 + (frames - 1) / t, height / h, width / w] };
    let executables = Executables::default();
    let coder = Coder { vae: vae.as_ref(), device: &device, executables: &executables, budget: Budget::default() };
    println!("{}: {:?} latents, {:?}", device.name(), shape.grid, coder.memory(Direction::Decode, shape)?);
    if more.first().is_some_and(|word| word == "dry") {
        return Ok(());
    }
    let head = Head {
        width: u32::try_from(width)?,
        height: u32::try_from(height)?,
        frame_rate: FrameRate::new(16, 1)?,
        frames: Some(1 + (shape.grid[0] - 1) * t),
        is_opaque: true,
    };
    let output = more.first().map(|file| Output::open(Path::new(file), None, true)).transpose()?;
    let mut writing = output.map(|output| output.begin(head, &Metadata::default())).transpose()?;
    let latents: Vec<f32> = (0..shape.elements()).map(|i| (i as f32 * 0.618).sin()).collect();
    let (begun, peak, done) = (Instant::now(), AtomicI64::new(0), AtomicBool::new(false));
    let mut made = 0;
    let sink = &mut async |frame: Vec<u8>| {
        made += 1;
        if let Some(writing) = &mut writing {
            writing.frame(&frame, &mut |_| true).map_err(|error| Failed::Io {
                action: "write",
                path: "the clip".into(),
                source: std::io::Error::other(error),
            })?;
        }
        let memory = device.memory();
        let [live, most, host] = [memory.live, memory.peak, peak.load(Relaxed).max(0) as u64].map(|bytes| bytes / 1_000_000);
        // What the device is given back afterwards a driver frees when it likes.
        done.store(Some(made) == head.frames, Relaxed);
        println!("frame {made}: {live} MB live, {most} MB at most, host {host} MB at most, {} s", begun.elapsed().as_secs());
        Ok(())
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            // Buffers are all there before the first tile is decoded: an answer that does not wait for the first frame.
            let mut told = 0;
            while !done.load(Relaxed) {
                peak.fetch_max(private(&device) - baseline, Relaxed);
                let most = device.memory().peak / 1_000_000;
                if most > told {
                    println!("{most} MB at most, {} s", begun.elapsed().as_secs());
                    told = most;
                }
                thread::sleep(TICK);
            }
        });
        let decoded = pollster::block_on(coder.decode(&latents, shape, &CancelToken::default(), sink));
        done.store(true, Relaxed);
        decoded
    })?;
    if let Some(writing) = writing {
        let written = writing.finish(&mut |_| true)?;
        println!("{}: {} bytes by {}", written.path.display(), written.size_bytes, written.encoder);
    }
    println!("host: {:.1} MB private at most, after {:.1} MB with the adapter open", peak.into_inner() as f64 / 1e6, baseline as f64 / 1e6);
    Ok(())
}
