//! Files that were tampered with: nothing panics, nothing hangs, and what is accepted is what its header says.

mod support;

use std::time::{Duration, Instant};

use kinora_kernels::WeightFormat;
use kinora_runtime::manifest::Index;
use kinora_runtime::models::component::Component;
use kinora_runtime::text::Tokenizer;
use kinora_runtime::weights::Checkpoint;
use support::golden;

/// Numbers that are the same in every run (Steele et al., `SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// One to four changes: bytes, numbers that are extreme, cuts, pieces that are repeated or left out. Most at the beginning, where
/// headers are.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const EXTREME: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff_ffff, 1 << 31, u64::MAX, 1 << 62];
    for _ in 0..=random.below(4) {
        let reach = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(700) };
        let at = random.below(reach);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.splice(at..at, bytes[at..].iter().take(9).copied().collect::<Vec<_>>()).for_each(drop),
            2 => bytes.drain(at..bytes.len().min(at + 1 + random.below(9))).for_each(drop),
            3 => {
                let width = 1 << random.below(4);
                let number = EXTREME[random.below(EXTREME.len())].to_le_bytes();
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
            }
            4 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = b"0123456789{}[]\",:-eE"[random.below(20)]),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }
}

/// Opens mutations of a weight file and reads everything that was accepted.
fn weights(name: &str, count: usize) {
    let original = std::fs::read(golden().join(name)).expect("a fixture");
    let mut random = Random(20_261_128);
    let (mut accepted, mut slowest) = (0, Duration::ZERO);
    for _ in 0..count {
        let mut bytes = original.clone();
        mutate(&mut bytes, &mut random);
        let (len, start) = (bytes.len(), Instant::now());
        if let Ok(file) = Checkpoint::from_files("test", vec![("test".into(), bytes)]) {
            accepted += 1;
            let names: Vec<&str> = file.names().collect();
            let mut total = 0;
            for name in names {
                let tensor = file.get(name).expect("it was accepted");
                assert_eq!(Some(tensor.bytes.len() as u64), tensor.dtype.bytes(tensor.len() as u64), "{name}");
                assert_eq!(tensor.to_f32().len(), tensor.len(), "{name}");
                total += tensor.bytes.len();
            }
            assert!(total < len, "tensors of {total} bytes in a file of {len}");
            if let Ok(Some(json)) = file.tokenizer() {
                // Whatever it says, it is JSON; a vocabulary of other pieces is still one.
                let _ = Tokenizer::from_json(&json);
                assert!(json.len() < 100 * len, "a tokenizer of {} bytes from {len}", json.len());
            }
        }
        slowest = slowest.max(start.elapsed());
    }
    println!("{name}: {accepted} of {count} mutations accepted, the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    // Changes of values and texts are no faults; most changes of a header are.
    assert!(accepted > 0 && accepted < count, "{accepted} of {count} accepted");
}

/// Reads mutations of a tokenizer that is a tensor.
fn sentencepiece(count: usize) {
    // Of its map of characters the beginning will do.
    let original = std::fs::read(golden().join("gguf/spiece.model")).expect("a fixture")[..20_000].to_vec();
    let mut random = Random(7);
    for _ in 0..count {
        let mut model = original.clone();
        mutate(&mut model, &mut random);
        let header = format!(r#"{{"spiece_model":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, model.len());
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &model].concat();
        let file = Checkpoint::from_files("test", vec![("test".into(), bytes)]).expect("a file");
        if let Err(error) = file.tokenizer() {
            assert_eq!(error.code(), "invalid-tokenizer", "{error}");
        }
    }
}

/// Loads components with mutations of their configuration.
fn configurations(folder: &str, count: usize) {
    let folder = golden().join(folder);
    let checkpoint = Checkpoint::open(&folder).expect("a fixture");
    let original = std::fs::read(folder.join("config.json")).expect("a fixture");
    let mut random = Random(42);
    for _ in 0..count {
        let mut bytes = original.clone();
        mutate(&mut bytes, &mut random);
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let start = Instant::now();
        let loaded = Component::load(&text, "config.json", &checkpoint, WeightFormat::F32, &Index::default());
        assert!(start.elapsed() < Duration::from_secs(10), "{text}");
        if let Err(error) = loaded {
            assert!(!error.to_string().is_empty() && !error.code().is_empty(), "{text}");
        }
    }
}

#[test]
fn thousands_of_mutations_are_accepted_or_refused() {
    const COUNT: usize = 20_000;
    weights("gguf/small.gguf", COUNT);
    weights("gguf/tokenizer.gguf", COUNT / 4);
    weights("wan_pipeline/inputs_euler.safetensors", COUNT);
    sentencepiece(COUNT / 4);
    let folders =
        ["wan_pipeline/transformer", "wan_vae/v21", "umt5/tiny", "t5/gated_gelu", "ltx_transformer/head32", "ltx_vae/v095", "bert/tiny"];
    for folder in folders {
        configurations(folder, COUNT / 5);
    }
}
