//! Files that were tampered with: nothing panics, nothing hangs, and what is accepted is what its header says.

#[path = "../../kernels/tests/support/random.rs"]
mod random;
mod support;

use std::time::{Duration, Instant};

use kinora_kernels::WeightFormat;
use kinora_runtime::manifest::Index;
use kinora_runtime::models::component::Component;
use kinora_runtime::text::Tokenizer;
use kinora_runtime::weights::Checkpoint;
use random::{Random, damage};
use support::golden;

/// Opens mutations of a weight file and reads everything that was accepted.
fn weights(name: &str, count: usize) {
    let original = std::fs::read(golden().join(name)).expect("a fixture");
    let mut random = Random(20_261_128);
    let (mut accepted, mut slowest) = (0, Duration::ZERO);
    for _ in 0..count {
        let mut bytes = original.clone();
        damage(&mut bytes, &mut random);
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
        damage(&mut model, &mut random);
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
        damage(&mut bytes, &mut random);
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
