//! What packs weights, against the host's panels.

use std::sync::Arc;

use half::{bf16, f16};

use super::*;
use crate::WeightFormat;
use crate::adapter::AdapterSelect;
use crate::raw::{Q8_BLOCK, RawRows};
use crate::{Delta, Encoding, Panels, Place, Scales, Shape, Stored, adapters};

fn gpus() -> Vec<Gpu> {
    let count = pollster::block_on(adapters()).len();
    (0..count).map(|index| pollster::block_on(Gpu::open(&AdapterSelect::Index(index), None)).expect("a listed adapter opens")).collect()
}

/// Seeded bits.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 32) as u32
}

/// A number of any size that halves have, below them and halfway between two of them too.
fn number(state: &mut u64) -> f32 {
    let bits = random(state);
    let exponent = 96 + (bits >> 8) % 46;
    let fraction = if bits & 2 == 0 { random(state) & 0x7f_ffff } else { (random(state) & 0x3ff) << 13 | 0x1000 };
    f32::from_bits((bits & 1) << 31 | exponent << 23 | fraction)
}

fn weight(dims: &[usize], disk: usize, format: WeightFormat, state: &mut u64) -> Weight {
    Weight::stored("w", Shape::new(dims), stored(dims, disk, state), format).expect("the bytes are there")
}

/// Values of numbers or of bytes, as a file has them.
fn stored(dims: &[usize], disk: usize, state: &mut u64) -> Stored {
    let (count, row) = (dims.iter().product::<usize>(), dims[1..].iter().product::<usize>());
    let numbers: Vec<f32> = (0..count).map(|_| number(state)).collect();
    let bytes = |encoding: Encoding, bytes: Vec<u8>| Place { range: 0..bytes.len() as u64, file: Arc::new(bytes), encoding };
    let floats = |encoding, floats: &mut dyn Iterator<Item = Vec<u8>>| Stored::from(bytes(encoding, floats.flatten().collect()));
    match disk {
        0 => Place::from_f32(&numbers).into(),
        1 => floats(Encoding::F16, &mut numbers.iter().map(|v| f16::from_f32(v.clamp(-65504.0, 65504.0)).to_le_bytes().to_vec())),
        2 => floats(Encoding::Bf16, &mut numbers.iter().map(|v| bf16::from_f32(*v).to_le_bytes().to_vec())),
        _ => {
            let codes = bytes(Encoding::I8, (0..count).map(|_| random(state) as u8).collect());
            let scale = |state: &mut u64| f16::from_f32((number(state) * 0.01).clamp(-500.0, 500.0)).to_le_bytes();
            let scales = (0..dims[0] * row.div_ceil(Q8_BLOCK)).flat_map(|_| scale(state)).collect();
            q8(codes, bytes(Encoding::F16, scales), row)
        }
    }
}

/// Bytes with a scale for each block of a row.
fn q8(place: Place, scales: Place, row: usize) -> Stored {
    Stored { row, scales: Some(Scales { place: scales, block: [1, Q8_BLOCK] }), ..place.into() }
}

/// Packs through a window that holds so many panels of the largest weight, and reads back.
fn packed(gpu: &Gpu, weights: &[Weight], panels: Option<u64>) -> Vec<Vec<u8>> {
    let place = |weight: &Weight| Memory::whole(gpu.storage("panels", weight.stored_bytes()).expect("fits"));
    let list: Vec<(Weight, Memory)> = weights.iter().map(|weight| (weight.clone(), place(weight))).collect();
    let mut packer = Packer::new(gpu, weights, WINDOW_BYTES).expect("fits").expect("matrices");
    if let Some(panels) = panels {
        let panel = |weight: &Weight| Layout::of(weight).extents(PANEL)[1];
        let bytes = panels * weights.iter().map(panel).max().expect("some") + 2 * ALIGNMENT;
        packer.window = gpu.storage("window", bytes).expect("fits");
    }
    packer.finish(gpu, &mut Pending::new(list.clone())).expect("packs");
    list.iter().map(|(weight, memory)| pollster::block_on(gpu.download(&memory.buffer, 0, weight.stored_bytes())).expect("reads")).collect()
}

fn assert_as_on_the_host(gpu: &Gpu, weights: &[Weight], panels: Option<u64>) {
    for (weight, found) in weights.iter().zip(packed(gpu, weights, panels)) {
        let expected = weight.panel_bytes();
        assert_eq!(expected.len() as u64, weight.stored_bytes(), "{weight:?}");
        let wrong = expected.iter().zip(&found).position(|(a, b)| a != b);
        assert_eq!(wrong, None, "{weight:?} from {:?} on {}, windows of {panels:?} panels", weight.raw(), gpu.info().name);
    }
}

#[test]
fn panels_have_the_bits_that_the_host_makes() {
    let shapes: [&[usize]; 9] =
        [&[1, 1], &[16, 4], &[17, 5], &[40, 33], &[64, 96], &[2, 130], &[33, 3, 1, 3, 3], &[20, 8, 3, 1, 1], &[5, 7, 3, 3, 3]];
    for gpu in gpus() {
        let mut state = 7;
        for format in [WeightFormat::F32, WeightFormat::F16] {
            for disk in 0..4 {
                let weights: Vec<Weight> = shapes.iter().map(|dims| weight(dims, disk, format, &mut state)).collect();
                assert_as_on_the_host(&gpu, &weights, None);
                assert_as_on_the_host(&gpu, &weights, Some(1));
                // Rows that begin within a panel, of one type and of several.
                let parts = |types: [usize; 3], state: &mut u64| {
                    let parts = [3, 18, 30].iter().zip(types).map(|(rows, disk)| weight(&[*rows, 33], disk, format, state));
                    Weight::stack(&parts.collect::<Vec<_>>()).expect("equal rows")
                };
                let stacks = [parts([disk; 3], &mut state), parts([disk, 3, 1], &mut state)];
                assert_as_on_the_host(&gpu, &stacks, Some(1));
                assert_as_on_the_host(&gpu, &stacks, Some(2));
            }
        }
    }
}

/// Blocks of random bits, whose scales and minima are numbers below a half.
fn blocks(encoding: Encoding, dims: [usize; 2], format: WeightFormat, state: &mut u64) -> Weight {
    Weight::stored("w", Shape::new(&dims), stored_blocks(encoding, dims, state), format).expect("whole blocks")
}

fn stored_blocks(encoding: Encoding, dims: [usize; 2], state: &mut u64) -> Stored {
    let [values, bytes] = encoding.block();
    let halves: &[usize] = match encoding {
        Encoding::Q2K => &[80, 82],
        Encoding::Q3K => &[108],
        Encoding::Q6K => &[208],
        Encoding::Q4_1 | Encoding::Q5_1 | Encoding::Q4K | Encoding::Q5K => &[0, 2],
        _ => &[0],
    };
    let mut data: Vec<u8> = (0..dims[0] * dims[1] / values * bytes).map(|_| random(state) as u8).collect();
    for block in data.chunks_exact_mut(bytes) {
        for &at in halves {
            let half = (random(state) & 0x8000) as u16 | (random(state) % 0x3800) as u16;
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    Place { range: 0..data.len() as u64, file: Arc::new(data), encoding }.into()
}

#[test]
fn blocks_of_every_format_have_the_bits_that_the_host_makes() {
    use Encoding::{Iq4Nl, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    for gpu in gpus() {
        let mut state = 11;
        for format in [WeightFormat::F32, WeightFormat::F16] {
            for encoding in [Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Iq4Nl, Q2K, Q3K, Q4K, Q5K, Q6K] {
                let block = encoding.block()[0];
                let dims = [[1, block], [17, 2 * block], [40, 3 * block]];
                let weights = dims.map(|dims| blocks(encoding, dims, format, &mut state));
                assert!(weights.iter().all(|weight| weight.raw() == Some(RawRows::Blocks(encoding))), "{encoding:?}");
                assert_as_on_the_host(&gpu, &weights, None);
                assert_as_on_the_host(&gpu, &weights, Some(1));
            }
        }
    }
}

#[test]
fn every_finite_half_and_every_product_of_code_and_scale_is_exact() {
    let halves: Vec<u8> = (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00).flat_map(u16::to_le_bytes).collect();
    let scales: Vec<u8> = (0..=u16::MAX).filter(|bits| bits & 0x7c00 < 0x7800).flat_map(u16::to_le_bytes).collect();
    // Each scale with 32 of the 256 codes, all of which come up.
    let blocks = scales.len() / 2;
    let codes: Vec<u8> = (0..blocks).flat_map(|block| (0..32).map(move |i| (32 * (block % 8) + i) as u8)).collect();
    let place = |bytes: Vec<u8>, encoding| Place { range: 0..bytes.len() as u64, file: Arc::new(bytes), encoding };
    let (halves, codes, scales) = (place(halves, Encoding::F16), place(codes, Encoding::I8), place(scales, Encoding::F16));
    for gpu in gpus() {
        for format in [WeightFormat::F32, WeightFormat::F16] {
            let all = Weight::stored("w", Shape::new(&[halves.len() / 64, 64]), halves.clone().into(), format);
            assert_as_on_the_host(&gpu, &[all.expect("the bytes are there")], None);
        }
        // As f16 the largest products would be infinite.
        let all = Weight::stored("w", Shape::new(&[blocks, 32]), q8(codes.clone(), scales.clone(), 32), WeightFormat::F32);
        assert_as_on_the_host(&gpu, &[all.expect("the bytes are there")], None);
    }
}

#[test]
fn what_the_device_does_not_read_by_itself_is_packed_all_the_same() {
    let place = |bytes: Vec<u8>, encoding| Place { range: 0..bytes.len() as u64, file: Arc::new(bytes), encoding };
    // Numbers of 8 bits, and rows to which something is added.
    let bytes: Vec<u8> = (0..40 * 96).map(|i| (i * 7 % 120) as u8).collect();
    let delta = |rank: usize| Delta::Product {
        up: Place::from_f32(&(0..40 * rank).map(|i| i as f32 / 8.0).collect::<Vec<_>>()),
        down: Place::from_f32(&(0..rank * 96).map(|i| (i % 7) as f32).collect::<Vec<_>>()),
        rank,
        factor: 0.5,
    };
    for gpu in gpus() {
        for format in [WeightFormat::F32, WeightFormat::F16] {
            let stored = Stored::from(place(bytes.clone(), Encoding::F8E4m3));
            let adapted = Stored { row: 96, deltas: vec![delta(2), delta(3)], ..stored.clone() };
            let weights: Vec<Weight> = [stored, adapted]
                .map(|stored| Weight::stored("w", Shape::new(&[40, 96]), stored, format).expect("the bytes are there"))
                .to_vec();
            assert!(weights[0].values() != weights[1].values(), "something is added");
            assert_as_on_the_host(&gpu, &weights, None);
            assert_as_on_the_host(&gpu, &weights, Some(1));
            let stack = Weight::stack(&weights).expect("equal rows");
            assert_as_on_the_host(&gpu, &[stack], Some(1));
        }
    }
}

#[test]
fn what_is_added_to_quantised_rows_is_added_in_stacks_of_several_formats() {
    let gpus = gpus();
    for format in [WeightFormat::F32, WeightFormat::F16] {
        let (mut state, dims) = (17, [18, 256]);
        let mut parts: Vec<Stored> = [Encoding::Q8_0, Encoding::Q4K, Encoding::Q5_0, Encoding::Q6K, Encoding::Iq4Nl]
            .map(|encoding| stored_blocks(encoding, dims, &mut state))
            .to_vec();
        parts.extend([3, 1].map(|disk| stored(&dims, disk, &mut state)));
        let adapted = parts.iter().map(|part| {
            let mut values = |count| Place::from_f32(&(0..count).map(|_| random(&mut state) as f32 / 4e9).collect::<Vec<_>>());
            let delta = Delta::Product { up: values(18 * 2), down: values(2 * 256), rank: 2, factor: 0.5 };
            Stored { row: 256, deltas: vec![delta], ..part.clone() }
        });
        let weight = |stored: &Stored| Weight::stored("w", Shape::new(&dims), stored.clone(), format).expect("the bytes are there");
        let adapted: Vec<Weight> = adapted.collect::<Vec<_>>().iter().map(weight).collect();
        let plain: Vec<Weight> = parts.iter().map(weight).collect();
        for (adapted, plain) in adapted.iter().zip(&plain) {
            assert!(adapted.values() != plain.values() && adapted.values().iter().all(|value| value.is_finite()), "something is added");
        }
        // All of them, and one that is adapted beside others that are not.
        let some = [plain[0].clone(), adapted[1].clone(), plain[5].clone()];
        let stacks = [adapted.as_slice(), &some].map(|parts| Weight::stack(parts).expect("equal rows"));
        for gpu in &gpus {
            assert_as_on_the_host(gpu, &stacks, Some(1));
        }
    }
}

#[test]
fn a_large_weight_passes_a_small_window_and_the_window_is_given_back() {
    for gpu in gpus() {
        let values = vec![0.5; 4 << 20];
        let weight = Weight::from_f32("w", Shape::new(&[2048, 2048]), &values, WeightFormat::F16);
        gpu.forget_peak();
        let before = gpu.memory().live;
        let found = gpu.weights([&weight, &weight], WINDOW_BYTES).expect("fits");
        let (memory, stored) = (gpu.memory(), weight.stored_bytes());
        assert_eq!((found.len(), memory.live - before), (1, stored), "one copy, and no window");
        assert_eq!(memory.peak - before, stored + WINDOW_BYTES + PARAMS_BYTES, "while it was packed");
        drop((found, weight));
        gpu.weights([], WINDOW_BYTES).expect("nothing");
        assert_eq!(gpu.memory().live, before, "nobody holds it");
    }
}

/// A weight whose panels lie in a file, beside nothing else.
fn from_panels(weight: &Weight) -> Weight {
    let bytes = weight.panel_bytes();
    let encoding = if weight.format() == WeightFormat::F16 { Encoding::F16 } else { Encoding::F32 };
    let place = Place { range: 0..bytes.len() as u64, file: Arc::new(bytes), encoding };
    let panels = Panels { place, shape: weight.shape() };
    assert!(panels.fits(), "{weight:?}");
    let size = crate::ByteSource::size(&panels);
    let view = Place { range: 0..size, file: Arc::new(panels.clone()), encoding };
    let stored = Stored { row: weight.row_len(), panels: Some(panels), ..Stored::from(view) };
    Weight::stored("w", weight.shape(), stored, weight.format()).expect("the bytes are there")
}

#[test]
fn panels_of_a_file_are_uploaded_and_read_row_by_row() {
    let mut state = 13;
    let shapes: [&[usize]; 6] = [&[16, 4], &[17, 5], &[40, 33], &[33, 3, 1, 3, 3], &[32, 8, 3, 1, 1], &[5, 7, 3, 3, 3]];
    let formats = [WeightFormat::F32, WeightFormat::F16];
    let sources: Vec<Weight> = formats.iter().flat_map(|format| shapes.map(|dims| weight(dims, 0, *format, &mut state))).collect();
    let weights: Vec<Weight> = sources.iter().map(from_panels).collect();
    for (weight, source) in weights.iter().zip(&sources) {
        assert!(weight.values() == source.values() && weight.panels().is_some(), "{weight:?}");
        for row in 0..weight.shape().dims()[0] {
            let row = |of: &Weight| of.row(row).expect("readable").expect("there");
            let (found, mut expected) = (row(weight), row(source));
            if weight.format() == WeightFormat::F16 {
                expected.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
            }
            assert!(found == expected, "{weight:?}");
        }
        weight.check().expect("finite");
    }
    // Of whole panels, and of one that ends within a panel before another.
    let side_by_side = |first: usize, second: usize| Weight::stack(&[weights[first].clone(), weights[second].clone()]);
    let (whole, ragged) = (side_by_side(0, 0).expect("equal rows"), side_by_side(1, 1).expect("equal rows"));
    assert!(whole.panels().is_some() && ragged.panels().is_none(), "panels of two parts");
    let all = [weights, vec![whole, ragged]].concat();
    for gpu in gpus() {
        // Nothing needs packing, something does, and all through the smallest window.
        for (list, panels) in [(&all[..], None), (&all[..], Some(1))] {
            assert_as_on_the_host(&gpu, list, panels);
        }
        let ready = &all[..3];
        let list: Vec<(Weight, Memory)> =
            ready.iter().map(|w| (w.clone(), Memory::whole(gpu.storage("panels", w.stored_bytes()).expect("fits")))).collect();
        assert!(Packer::new(&gpu, ready, WINDOW_BYTES).expect("fits").is_none(), "no window");
        Pending::new(list.clone()).upload(&gpu).expect("uploads");
        for (weight, memory) in &list {
            let found = pollster::block_on(gpu.download(&memory.buffer, 0, weight.stored_bytes())).expect("reads");
            assert!(found == weight.panel_bytes(), "{weight:?}");
        }
    }
}

/// A file on the disk of this machine.
#[cfg(unix)]
struct OnDisk(std::fs::File, u64);

#[cfg(unix)]
impl crate::ByteSource for OnDisk {
    fn size(&self) -> u64 {
        self.1
    }

    fn read(&self, range: Range<u64>) -> std::io::Result<std::borrow::Cow<'_, [u8]>> {
        use std::os::unix::fs::FileExt as _;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.0.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }
}

/// The matrices of the transformer of Wan 1.3B in q8, 1.4 GB of pseudo-random bytes, from a warm cache of files.
#[test]
#[cfg(unix)]
#[ignore = "writes 1.4 GB; its figure stands in docs/performance.md"]
fn loading_takes_a_few_times_as_long_as_reading_and_uploading() {
    use std::io::Write as _;
    use std::time::Instant;
    const BLOCKS: usize = 30;
    let shapes: Vec<[usize; 2]> =
        (0..BLOCKS).flat_map(|_| [[[1536, 1536]; 8].to_vec(), vec![[8960, 1536], [1536, 8960]]].concat()).collect();
    let bytes_of = |[n, k]: [usize; 2]| (n * k + n * k / Q8_BLOCK * 2) as u64;
    let total: u64 = shapes.iter().copied().map(bytes_of).sum();
    let path = std::env::temp_dir().join(format!("kinora-load-{}", std::process::id()));
    let mut out = std::io::BufWriter::new(std::fs::File::create(&path).expect("writable"));
    let mut state = 11;
    for [n, k] in &shapes {
        let codes: Vec<u8> = (0..n * k / 4).flat_map(|_| random(&mut state).to_le_bytes()).collect();
        out.write_all(&codes).expect("there is room");
        out.write_all(&f16::from_f32(0.001).to_le_bytes().repeat(n * k / Q8_BLOCK)).expect("there is room");
    }
    drop(out);
    let file: crate::SharedBytes = Arc::new(OnDisk(std::fs::File::open(&path).expect("there"), total));
    std::fs::remove_file(&path).expect("its own");
    let gpu = pollster::block_on(Gpu::open(&AdapterSelect::Auto, None)).expect("an adapter");
    let mut at = 0;
    let weights = shapes.iter().map(|&[n, k]| {
        let (codes, end) = (at + (n * k) as u64, at + bytes_of([n, k]));
        let place = |range, encoding| Place { file: Arc::clone(&file), range, encoding };
        let stored = q8(place(at..codes, Encoding::I8), place(codes..end, Encoding::F16), k);
        at = end;
        Weight::stored("w", Shape::new(&[n, k]), stored, WeightFormat::F16).expect("the bytes are there")
    });
    let weights: Vec<Weight> = weights.collect();
    let windows = || (0..total).step_by(place::WINDOW_BYTES).map(|start| start..total.min(start + WINDOW_BYTES));
    let idle = || pollster::block_on(gpu.idle()).expect("runs");
    let timed = |what: &mut dyn FnMut()| {
        let begun = Instant::now();
        what();
        begun.elapsed().as_secs_f64()
    };
    let mut best = [f64::INFINITY; 3];
    for _ in 0..3 {
        let read = timed(&mut || windows().for_each(|range| drop(file.read(range).expect("there"))));
        let bytes = file.read(0..WINDOW_BYTES).expect("there");
        let window = gpu.storage("window", WINDOW_BYTES).expect("fits");
        let upload = timed(&mut || {
            for range in windows() {
                gpu.write(&window, 0, &bytes[..(range.end - range.start) as usize]);
                gpu.stage(range.end - range.start).expect("runs");
            }
            idle();
        });
        let load = timed(&mut || {
            drop(gpu.weights(&weights, WINDOW_BYTES).expect("fits"));
            idle();
        });
        crate::gpu::lock(&gpu.weights).clear();
        best.iter_mut().zip([read, upload, load]).for_each(|(best, new)| *best = best.min(new));
    }
    let [read, upload, load] = best;
    let ratio = load / (read + upload);
    println!("{:.2} GB: read in {read:.2} s, uploaded in {upload:.2} s, loaded in {load:.2} s: {ratio:.2} of both", total as f64 / 1e9);
    // Software adapters make panels on the processors that read the file.
    assert!(ratio <= 8.0, "{ratio:.2}");
}
