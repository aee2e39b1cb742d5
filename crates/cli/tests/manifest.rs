//! `kinora models manifest` and `verify` of a folder.

#[path = "../../kernels/tests/support/random.rs"]
mod random;
mod support;

use std::error::Error;
use std::fs;
use std::process::Command;

use random::Random;
use support::Folder;

type Outcome = Result<(), Box<dyn Error>>;

/// Flips a bit of so many random places of a folder's files, one after another, and has each found in its chunk.
fn flips(count: usize) -> Outcome {
    let folder = Folder::new("manifest-flips")?;
    let mut random = Random(20_261_130);
    let run = |words: &[&str]| Command::new(env!("CARGO_BIN_EXE_kinora")).arg("models").args(words).output();
    let model = folder.0.to_str().ok_or("a path")?;
    for (name, length) in [("a.json", 700), ("vae/b.safetensors", (4 << 20) + 1), ("text/c.gguf", 9 << 20)] {
        let path = folder.0.join(name);
        fs::create_dir_all(path.parent().ok_or("a folder")?)?;
        fs::write(path, random.bytes(length))?;
    }
    let none = run(&["verify", model])?;
    assert!(String::from_utf8_lossy(&none.stderr).contains("error[no-manifest]"), "{none:?}");
    assert!(run(&["manifest", model])?.status.success(), "written");
    assert_eq!(run(&["manifest", model])?.status.code(), Some(6), "it exists");
    assert!(run(&["verify", model])?.status.success(), "whole");
    let names = ["a.json", "vae/b.safetensors", "text/c.gguf"];
    for flip in 0..count {
        let name = *random.pick(&names);
        let path = folder.0.join(name);
        let mut bytes = fs::read(&path)?;
        let (at, bit) = (random.below(bytes.len()), random.below(8));
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes)?;
        let output = run(&["verify", model])?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = format!("1 of 3 files of {model}: {name} is damaged after byte {}", at >> 22 << 22);
        assert!(output.status.code() == Some(4) && errors.contains(&expected), "flip {flip}, byte {at}: {errors}");
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes)?;
    }
    fs::write(folder.0.join(names[0]), "shorter")?;
    fs::remove_file(folder.0.join(names[1]))?;
    let errors = String::from_utf8_lossy(&run(&["verify", model])?.stderr).into_owned();
    assert!(errors.contains("2 of 3 files") && errors.contains("a.json has 7 bytes, expected 700"), "{errors}");
    println!("{count} of {count} flips found");
    Ok(())
}

#[test]
fn flipped_bits_of_a_folder_are_found_and_placed() -> Outcome {
    flips(10)
}

#[test]
#[ignore = "a minute; its figure stands in docs/reliability.md"]
fn a_thousand_flipped_bits_of_a_folder_are_found_and_placed() -> Outcome {
    flips(1000)
}
