//! Clips in pieces: chunks of a causal autoencoder are the whole bit for bit, windows and tiles are close to it.

mod support;

use kinora_kernels::{Cadence, Device, Executable, Graph, Plan, Tensor, WeightFormat};
use kinora_runtime::models::component::Component;
use kinora_runtime::models::family::{Autoencoder, Direction, Split};
use kinora_runtime::nn::{Carry, Chunk};
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
    let mut chunks = Executable::group(device, graphs).expect("runs");
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
    }
}
