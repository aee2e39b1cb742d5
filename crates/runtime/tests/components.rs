//! Components that do not belong together, and configurations that cannot run: named when the model is loaded.

use std::path::Path;

use kinora_runtime::weights::ModelFiles;
use kinora_runtime::{Device, Error, VideoPipeline, WeightFormat};

const FILES: [&str; 9] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// The tiny model with files replaced: each by another one, or edited.
fn load(replace: &dyn Fn(&str, Vec<u8>) -> Vec<u8>) -> Result<VideoPipeline, Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    let mut files = ModelFiles::new("tiny");
    for name in FILES {
        files.insert(name, replace(name, std::fs::read(folder.join(name)).expect("a file of the tiny model")));
    }
    VideoPipeline::from_files(Device::cpu(), files, WeightFormat::F32)
}

/// The tiny model with one line of one file edited.
fn edited(file: &str, from: &str, to: &str) -> Error {
    let edit = |name: &str, bytes: Vec<u8>| {
        if name != file {
            return bytes;
        }
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.contains(from), "{file} has no {from}");
        text.replacen(from, to, 1).into_bytes()
    };
    load(&edit).err().unwrap_or_else(|| panic!("{file} with {to} must be refused"))
}

fn golden(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)).expect("a fixture")
}

#[test]
fn the_tiny_model_loads_as_it_is() {
    assert!(load(&|_, bytes| bytes).is_ok(), "the refusals below are about what was replaced");
}

#[test]
fn a_component_of_the_wrong_class_is_named_with_those_that_work() {
    let swapped = |name: &str, bytes: Vec<u8>| match name {
        "vae/config.json" => golden("ltx_transformer/two_layers/config.json"),
        _ => bytes,
    };
    let error = load(&swapped).err().expect("a transformer is no autoencoder");
    let text = error.to_string();
    assert_eq!(error.code(), "unknown-class", "{error}");
    assert!(text.contains("`LTXVideoTransformer3DModel` in tiny/vae/config.json; known are AutoencoderKLLTXVideo"), "{text}");
    let error = edited("text_encoder/config.json", "BertModel", "GPT2Model");
    assert!(error.to_string().contains("`GPT2Model` in tiny/text_encoder/config.json"), "{error}");
}

#[test]
fn text_of_another_width_names_both_components() {
    let other = |name: &str, bytes: Vec<u8>| match name {
        "model_index.json" => String::from_utf8(bytes).expect("text").replace("BertModel", "T5EncoderModel").into_bytes(),
        "text_encoder/config.json" => golden("t5/relu/config.json"),
        "text_encoder/model.safetensors" => golden("t5/relu/model.safetensors"),
        _ => bytes,
    };
    let error = load(&other).err().expect("T5 is wider than the tiny model's captions");
    assert_eq!(error.code(), "invalid-config", "{error}");
    let text = error.to_string();
    assert!(text.contains("tiny/transformer/config.json: caption_channels: expected the"), "{text}");
    assert!(text.contains("channels of text_encoder, found"), "{text}");
}

#[test]
fn extensions_that_the_transformer_cannot_have_are_named() {
    let error = edited("model_index.json", "\"coordinate_channels\": 15", "\"coordinate_channels\": 0");
    assert!(error.to_string().contains("tiny/transformer/config.json: in_channels: expected"), "{error}");
    let error = edited("model_index.json", "\"coordinate_channels\": 15", "\"coordinate_channels\": 4");
    assert!(error.to_string().contains("`kinora.coordinate_channels`: expected 0 or 15, found 4"), "{error}");
    let error = edited("model_index.json", "\"fps\": 12", "\"fps\": 0");
    assert_eq!(error.code(), "invalid-config", "{error}");
}
