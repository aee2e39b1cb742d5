//! `kinora convert`, and the file that it writes.

mod support;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::Folder;

type Outcome = Result<(), Box<dyn Error>>;

fn kinora(words: &[&str]) -> Result<Output, Box<dyn Error>> {
    Ok(Command::new(env!("CARGO_BIN_EXE_kinora")).args(words).output()?)
}

#[test]
fn a_converted_model_is_one_file_that_makes_the_same_clip() -> Outcome {
    let folder = Folder::new("convert")?;
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    let at = |name: &str| folder.0.join(name).display().to_string();
    let (tiny, packed) = (tiny.display().to_string(), at("tiny.safetensors"));
    let converted = kinora(&["convert", &tiny, &packed, "--json"])?;
    let json: serde_json::Value = serde_json::from_slice(&converted.stdout)?;
    assert!(json["packed"].as_u64().is_some_and(|count| count > 20), "{json}");
    let clip = |model: &str, name: &str| -> Result<Vec<u8>, Box<dyn Error>> {
        let path = at(name);
        let output =
            kinora(&["generate", "water", "--model", model, "--executor", "cpu", "--seed", "1", "--steps", "2", "-q", "-o", &path])?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(fs::read(path)?)
    };
    assert!(clip(&tiny, "a.y4m")? == clip(&packed, "b.y4m")?, "the same clip");
    let described = kinora(&["models", "info", &packed, "--json"])?;
    assert!(String::from_utf8_lossy(&described.stdout).contains("LTXPipeline"), "{described:?}");
    let refused = kinora(&["generate", "water", "--model", &packed, "--dtype", "f32", "--executor", "cpu", "-o", &at("c.y4m")])?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("packed as F16, asked for as F32"), "{refused:?}");
    assert!(kinora(&["models", "verify", &packed])?.status.success(), "as its manifest says");
    let mut bytes = fs::read(&packed)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&packed, bytes)?;
    let damaged = kinora(&["models", "verify", &packed])?;
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("tiny.safetensors is damaged after byte"), "{damaged:?}");
    let quantised = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/containers/wan_q8_0.gguf");
    let file = kinora(&["convert", &quantised.display().to_string(), &at("d.safetensors")])?;
    assert!(file.status.code() == Some(2) && String::from_utf8_lossy(&file.stderr).contains("expected a model folder"), "{file:?}");
    Ok(())
}
