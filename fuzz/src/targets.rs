//! One function for each parser: whether it accepts the bytes, after checking that what it made of them holds together.

use std::path::PathBuf;
use std::sync::OnceLock;

use kinora_kernels::WeightFormat;
use kinora_media::{FrameRate, Need, Part, Source};
use kinora_runtime::manifest::{Index, Manifest};
use kinora_runtime::models::component::Component;
use kinora_runtime::request::Options;
use kinora_runtime::text::Tokenizer;
use kinora_runtime::weights::Checkpoint;

/// A parser under test.
pub type Target = fn(&[u8]) -> bool;

/// A file of the committed fixtures.
///
/// # Panics
/// Without it.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A safetensors or GGUF file, with the tokenizer that may be in it.
pub fn weights(bytes: &[u8]) -> bool {
    let Ok(file) = Checkpoint::from_files("fuzz", vec![("fuzz".into(), bytes.to_vec())]) else { return false };
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    let mut total = 0;
    for name in &names {
        let tensor = file.get(name).expect("it was accepted");
        assert_eq!(Some(tensor.bytes.len() as u64), tensor.dtype.bytes(tensor.len() as u64), "{name}");
        assert_eq!(tensor.to_f32().len(), tensor.len(), "{name}");
        total += tensor.bytes.len();
    }
    assert!(total <= bytes.len(), "tensors of {total} bytes in a file of {}", bytes.len());
    if let Ok(Some(json)) = file.tokenizer() {
        assert!(json.len() < 100 * bytes.len(), "a tokenizer of {} bytes from {}", json.len(), bytes.len());
        tokenizer(&json);
    }
    true
}

/// Folders of components whose `config.json` is tried, by the first byte of the input.
pub const COMPONENTS: [&str; 9] = [
    "wan_pipeline/transformer",
    "wan_vae/v21",
    "umt5/tiny",
    "t5/gated_gelu",
    "ltx_transformer/head32",
    "ltx_vae/v095",
    "bert/tiny",
    "kl_vae/small",
    "latte_transformer/small",
];

/// A `config.json` beside the weights of one of the [`COMPONENTS`].
pub fn config(bytes: &[u8]) -> bool {
    static CHECKPOINTS: OnceLock<Vec<Checkpoint>> = OnceLock::new();
    let checkpoints = CHECKPOINTS.get_or_init(|| {
        let open = |folder: &&str| {
            let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(folder);
            Checkpoint::open(path).expect("a fixture")
        };
        COMPONENTS.iter().map(open).collect()
    });
    let Some((which, json)) = bytes.split_first() else { return false };
    let Ok(json) = std::str::from_utf8(json) else { return false };
    let checkpoint = &checkpoints[usize::from(*which) % COMPONENTS.len()];
    match Component::load(json, "config.json", checkpoint, WeightFormat::F32, &Index::default()) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.code().is_empty(), "an error without words");
            false
        }
    }
}

/// A `model_index.json`.
pub fn index(bytes: &[u8]) -> bool {
    let Ok(json) = std::str::from_utf8(bytes) else { return false };
    Index::parse(json, "model_index.json").and_then(|index| Manifest::of(&index)).is_ok()
}

/// A `tokenizer.json`, and some text through it.
pub fn tokenizer(bytes: &[u8]) -> bool {
    let Ok(tokenizer) = Tokenizer::from_json(bytes) else { return false };
    for text in ["", "a red bear walks", "Ünïcödé 漢字 🦊\u{200d}🦊", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "<pad></s> [CLS]"]
    {
        let found = tokenizer.encode(text, 64);
        let special = tokenizer.encode("", 0).ids.len();
        assert!(found.ids.len() <= 64.max(special), "{} ids", found.ids.len());
    }
    true
}

/// An image or a clip of the formats that are read without another program, and three frames of it.
pub fn media(bytes: &[u8]) -> bool {
    let Ok(source) = Source::decode(bytes.to_vec()) else { return false };
    let rate = FrameRate::from_f64(12.0).expect("a rate");
    [Part::First(3), Part::Last(3)].into_iter().all(|part| {
        let need = Need { width: 16, height: 8, rate, part, background: [255; 3], whole: false };
        source.take(&need).is_ok_and(|taken| {
            assert!((1..=3).contains(&taken.frames.len()), "{} frames", taken.frames.len());
            assert!(taken.frames.iter().all(|frame| frame.len() == 16 * 8 * 4), "frames of another size");
            true
        })
    })
}

/// The options of a request as JSON.
pub fn options(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Options>(bytes).is_ok()
}
