//! Clips in pieces: chunks of a causal autoencoder are the whole bit for bit, windows and tiles are close to it.

mod support;

use kinora_kernels::{Cadence, CancelToken, Device, Executable, Graph, Plan, Tensor, WeightFormat};
use kinora_runtime::Budget;
use kinora_runtime::executables::Executables;
use kinora_runtime::models::component::Component;
use kinora_runtime::models::family::{Autoencoder, Direction, Split};
use kinora_runtime::nn::{Carry, Chunk};
use kinora_runtime::pipeline::{Coder, CoderMemory};
use kinora_runtime::shape::LatentShape;
use support::{devices, golden};

fn autoencoder(folder: &str) -> Box<dyn Autoencoder> {
    match Component::open(&golden().join(folder), WeightFormat::F32) {
        Ok(Component::Autoencoder(vae)) => vae,
        Ok(_) => panic!("{folder} is no autoencoder"),
        Err(error) => panic!("{folder}: {error}"),
    }
}

fn record<'p>(vae: &dyn Autoencoder, direction: Direction, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
    match direction {
        Direction::Encode => vae.record_encode(x.plan(), x, carry),
        Direction::Decode => vae.record_decode(x.plan(), x, carry),
    }
}

/// The plan of a chunk of so many frames of these extents.
fn plan(vae: &dyn Autoencoder, direction: Direction, chunk: Chunk, [frames, height, width, channels]: [usize; 4]) -> Graph {
    let plan = Plan::new();
    let x = plan.input("x", &[1, frames, height, width, channels], Cadence::EveryStep);
    plan.output("y", record(vae, direction, x, &Carry::states(&plan, chunk)));
    plan.finish().unwrap_or_else(|e| panic!("{direction:?} {chunk:?} of {frames} frames: {e}"))
}

fn run(exec: &mut Executable, x: &[f32]) -> Vec<f32> {
    exec.write("x", x).expect("declared");
    pollster::block_on(exec.run()).expect("runs");
    pollster::block_on(exec.read("y")).expect("declared")
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.618).sin()).collect()
}

/// Frames of a chunk, of what is given.
fn frames(vae: &dyn Autoencoder, direction: Direction, chunk: Chunk, latent_frames: usize) -> usize {
    let step = vae.compression()[0];
    match (direction, chunk) {
        (Direction::Decode, _) => latent_frames,
        (Direction::Encode, Chunk::Later) => latent_frames * step,
        (Direction::Encode, _) => 1 + (latent_frames - 1) * step,
    }
}

/// Runs a clip as a whole, and in chunks of so many latent frames each, once by plans of their own and once within one plan.
fn compare(
    name: &str,
    vae: &dyn Autoencoder,
    direction: Direction,
    [height, width, channels]: [usize; 3],
    lengths: &[usize],
    device: &Device,
) {
    let count = |chunk, latent_frames| frames(vae, direction, chunk, latent_frames);
    let pixels = height * width * channels;
    let total = count(Chunk::Whole, lengths.iter().sum());
    let of = |chunk, latent_frames| plan(vae, direction, chunk, [count(chunk, latent_frames), height, width, channels]);
    let at = |i: usize| if i == 0 { Chunk::First } else { Chunk::Later };
    let mut whole = Executable::new(device, of(Chunk::Whole, lengths.iter().sum())).expect("runs");
    let graphs: Vec<Graph> = lengths.iter().enumerate().map(|(i, length)| of(at(i), *length)).collect();
    let mut chunks = Executable::group(device, graphs, None).expect("runs");
    let within = {
        let plan = Plan::new();
        let x = plan.input("x", &[1, total, height, width, channels], Cadence::EveryStep);
        let (carry, mut start, mut made) = (Carry::within(&plan), 0, None::<Tensor<'_>>);
        for (i, length) in lengths.iter().enumerate() {
            let frames = count(at(i), *length);
            let y = record(vae, direction, x.slice_frames(start, frames), &carry);
            made = Some(made.map_or(y, |before| before.concat_frames(y)));
            start += frames;
            carry.advance();
        }
        plan.output("y", made.expect("at least one chunk"));
        plan.finish().expect("shapes fit")
    };
    let mut within = Executable::new(device, within).expect("runs");
    // Twice: a clip must not see what the one before it left.
    for seed in [0, 7] {
        let x: Vec<f32> = values(total * pixels + seed)[seed..].to_vec();
        let expected = run(&mut whole, &x);
        let (mut found, mut start) = (Vec::new(), 0);
        for (i, length) in lengths.iter().enumerate() {
            let end = start + count(at(i), *length) * pixels;
            found.extend(run(&mut chunks[i], &x[start..end]));
            start = end;
        }
        let device = device.name();
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&found) == bits(&expected), "{name} {direction:?} {lengths:?} on {device}: chunks differ from the whole");
        assert!(bits(&run(&mut within, &x)) == bits(&expected), "{name} {direction:?} {lengths:?} on {device}: within one plan");
    }
}

#[test]
fn chunks_of_cogvideox_are_the_batches_of_the_reference() {
    let vae = autoencoder("cogvideox_vae/small");
    let split = |direction, frames| vae.split(direction, frames);
    assert_eq!(split(Direction::Decode, 13), Split::Chunks(vec![3, 2, 2, 2, 2, 2]), "as published");
    assert_eq!(split(Direction::Encode, 13), Split::Chunks(vec![3, 2, 2, 2, 2, 2]), "9 frames and five times 8");
    assert_eq!(split(Direction::Encode, 4), Split::Chunks(vec![4]), "13 frames at once");
    // That the whole is what the reference makes is seen in `golden.rs`.
    for (_, device, _) in devices() {
        compare("cogvideox", vae.as_ref(), Direction::Decode, [2, 3, 5], &[3, 2, 2], device);
        compare("cogvideox", vae.as_ref(), Direction::Decode, [1, 2, 5], &[2, 2], device);
        compare("cogvideox", vae.as_ref(), Direction::Encode, [8, 12, 3], &[3, 2, 2], device);
    }
}

#[test]
fn images_are_decoded_one_by_one() {
    let vae = autoencoder("kl_vae/small");
    assert_eq!(vae.split(Direction::Decode, 3), Split::Chunks(vec![1; 3]), "no frame sees another");
    compare("kl", vae.as_ref(), Direction::Decode, [2, 3, 4], &[1, 1, 1], &Device::cpu());
    compare("kl", vae.as_ref(), Direction::Encode, [8, 4, 3], &[1, 2], &Device::cpu());
}

#[test]
fn chunks_of_causal_autoencoders_are_the_whole_bit_for_bit() {
    for (_, device, _) in devices() {
        for folder in ["wan_vae/v21", "wan_vae/v21_two_stages", "wan_vae/v22"] {
            let vae = autoencoder(folder);
            let [_, rows, columns] = vae.compression();
            assert_eq!(vae.split(Direction::Decode, 3), Split::Chunks(vec![1; 3]), "{folder}");
            for lengths in [&[1, 1, 1][..], &[2, 1]] {
                compare(folder, vae.as_ref(), Direction::Decode, [3, 2, vae.latent_channels()], lengths, device);
                compare(folder, vae.as_ref(), Direction::Encode, [2 * rows, columns, 3], lengths, device);
            }
        }
        for folder in ["taehv/taew2_1", "taehv/taew2_2"] {
            let vae = autoencoder(folder);
            assert_eq!(vae.split(Direction::Decode, 3), Split::Chunks(vec![1; 3]), "{folder}");
            compare(folder, vae.as_ref(), Direction::Decode, [3, 2, vae.latent_channels()], &[1, 2, 1], device);
        }
    }
}

/// Latents of a scene: smooth, with some detail.
fn latents(shape: LatentShape) -> Vec<f32> {
    let [frames, height, width] = shape.grid;
    let at = |c: usize, t: usize, y: usize, x: usize| {
        let [c, t, y, x] = [c, t, y, x].map(|v| v as f32);
        (0.7 * c + 0.4 * t + 0.5 * y).sin() + 0.5 * (1.3 * c - 0.6 * x + 0.3 * t).cos()
    };
    (0..shape.channels)
        .flat_map(|c| (0..frames).flat_map(move |t| (0..height).flat_map(move |y| (0..width).map(move |x| at(c, t, y, x)))))
        .collect()
}

/// Frames of latents within a budget of bytes besides weights, and in how many parts they were made.
fn decoded(vae: &dyn Autoencoder, shape: LatentShape, least_value_bytes: u64, device: &Device) -> (Vec<Vec<u8>>, CoderMemory) {
    let executables = Executables::default();
    let coder = Coder { vae, device, executables: &executables, budget: Budget { total_bytes: 0, least_value_bytes } };
    let memory = coder.memory(Direction::Decode, shape).expect("can be decoded");
    let mut frames = Vec::new();
    let sink = &mut async |frame| {
        frames.push(frame);
        Ok(())
    };
    pollster::block_on(coder.decode(&latents(shape), shape, &CancelToken::default(), sink)).expect("decodes");
    (frames, memory)
}

#[test]
fn all_of_a_budget_may_be_used() {
    let (vae, executables) = (autoencoder("ltx_vae/v095"), Executables::default());
    let shape = LatentShape { channels: vae.latent_channels(), grid: [24, 2, 2] };
    let within = |least_value_bytes| {
        let budget = Budget { total_bytes: 0, least_value_bytes };
        let coder = Coder { vae: vae.as_ref(), device: &Device::cpu(), executables: &executables, budget };
        let memory = coder.memory(Direction::Decode, shape).expect("can be decoded");
        (memory.value_bytes, memory.pieces * memory.tiles)
    };
    let (all, parts) = within(u64::MAX);
    assert_eq!(within(all), (all, parts));
    assert!(within(all - 1).1 > parts, "a byte less than the whole takes");
}

/// Peak signal-to-noise ratio in decibels.
fn psnr(found: &[Vec<u8>], expected: &[Vec<u8>]) -> f64 {
    let errors = found.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let count = expected.iter().map(Vec::len).sum::<usize>();
    10.0 * (255.0_f64.powi(2) * count as f64 / errors.sum::<f64>().max(1e-9)).log10()
}

#[test]
fn windows_and_tiles_are_close_to_the_whole() {
    let (_, device, _) = devices().last().expect("an adapter");
    for (folder, grid, least) in [("ltx_vae/v095", [24, 2, 2], 45.0), ("ltx_vae/v090", [3, 40, 2], 45.0), ("wan_vae/v21", [2, 2, 40], 20.0)]
    {
        let vae = autoencoder(folder);
        let shape = LatentShape { channels: vae.latent_channels(), grid };
        let (whole, all) = decoded(vae.as_ref(), shape, u64::MAX, device);
        let allowed = all.value_bytes * 2 / 3;
        let (frames, memory) = decoded(vae.as_ref(), shape, allowed, device);
        let ratio = psnr(&frames, &whole);
        println!("{folder}: {memory:?} of {} bytes, {ratio:.1} dB", all.value_bytes);
        assert_eq!(frames.len(), whole.len(), "{folder}");
        assert!(memory.pieces * memory.tiles > all.pieces * all.tiles, "{folder}: in parts");
        assert!(memory.value_bytes <= allowed, "{folder}: {memory:?} of {} bytes", all.value_bytes);
        assert!(ratio >= least, "{folder} in {memory:?}: {ratio:.1} dB");
    }
}
