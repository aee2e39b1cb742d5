//! Models of single files and adaptations on the command line.

mod support;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::Folder;

type Outcome = Result<(), Box<dyn Error>>;

/// `kinora generate` in the folder of the fixtures.
fn generate(words: &[&str], output: &Path) -> Result<Output, Box<dyn Error>> {
    let containers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/containers");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.current_dir(containers).args(["generate", "a rocket", "--executor", "cpu", "--seed", "1", "--size", "32x16", "--frames", "5"]);
    Ok(command.args(["--steps", "2", "--progress", "plain", "-y", "-o"]).arg(output).args(words).output()?)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const FILES: [&str; 8] = [
    "--model",
    "wan_q8_0.gguf",
    "--vae",
    "vae.safetensors",
    "--text-encoder",
    "umt5_q8_0.gguf",
    "--tokenizer",
    "../tokenizer/unigram.json",
];

#[test]
fn a_model_is_put_together_from_files_and_adapted() -> Outcome {
    let folder = Folder::new("parts")?;
    // A format that holds nothing but frames.
    let path = folder.0.join("a.y4m");
    let run = |more: &[&str]| -> Result<(Vec<u8>, String), Box<dyn Error>> {
        let output = generate(&[&FILES, more].concat(), &path)?;
        assert!(output.status.success(), "{}", errors(&output));
        Ok((fs::read(&path)?, errors(&output)))
    };
    let (plain, _) = run(&[])?;
    let (adapted, told) = run(&["--lora", "lora_comfy.safetensors:0.5", "--lora", "lora_plain.safetensors"])?;
    assert!(plain != adapted, "the adaptation changes the clip");
    assert!(told.contains("lora_comfy.safetensors: 12 of 12 tensors applied"), "{told}");
    assert!(told.contains("lora_plain.safetensors: 5 of 6 tensors applied; not used: diffusion_model.blocks.0.cross_attn.k_img"), "{told}");
    // The same files in a folder, with a tokenizer beside them.
    let loose = folder.0.join("loose");
    fs::create_dir_all(loose.join("vae"))?;
    let containers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/containers");
    for (from, to) in [
        ("wan_q8_0.gguf", "a.gguf"),
        ("vae.safetensors", "vae/b.safetensors"),
        ("umt5_q8_0.gguf", "c.gguf"),
        ("../tokenizer/unigram.json", "tokenizer.json"),
    ] {
        fs::copy(containers.join(from), loose.join(to))?;
    }
    let output = generate(&["--model", loose.to_str().ok_or("a path")?], &path)?;
    assert!(output.status.success() && fs::read(&path)? == plain, "{}", errors(&output));
    Ok(())
}

#[test]
fn states_of_prompts_replace_the_text_encoder() -> Outcome {
    let folder = Folder::new("states")?;
    let (path, states) = (folder.0.join("a.y4m"), folder.0.join("a.safetensors"));
    let states = states.to_str().ok_or("a path")?;
    let whole = generate(&[&FILES, &["--text-states-out", states][..]].concat(), &path)?;
    assert!(whole.status.success(), "{}", errors(&whole));
    let clip = fs::read(&path)?;
    let without: Vec<&str> = FILES.into_iter().filter(|word| !word.contains("umt5") && *word != "--text-encoder").collect();
    let missing = generate(&without, &path)?;
    assert!(errors(&missing).contains("error[incomplete-model]"), "{}", errors(&missing));
    let bare = generate(&[&without, &["--text-states", states][..]].concat(), &path)?;
    assert!(bare.status.success() && fs::read(&path)? == clip, "{}", errors(&bare));
    let other = generate(&[&without, &["--text-states", states, "--negative", "blurred", "--guidance", "2"][..]].concat(), &path)?;
    assert!(other.status.code() == Some(2) && errors(&other).contains("without its text encoder (UMT5EncoderModel)"), "{}", errors(&other));
    let wrong = generate(&[&without, &["--text-states", "vae.safetensors"][..]].concat(), &path)?;
    assert!(wrong.status.code() == Some(4) && errors(&wrong).contains("vae.safetensors: its metadata names"), "{}", errors(&wrong));
    Ok(())
}

#[test]
fn another_decoder_draws_the_same_latents() -> Outcome {
    let folder = Folder::new("decoder")?;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    for (from, to) in [
        ("wan_pipeline/transformer", "transformer"),
        ("wan_pipeline/text_encoder", "text_encoder"),
        ("wan_vae/v21", "vae"),
        ("taehv/taew2_1", "taehv"),
        ("tokenizer/unigram.json", "tokenizer/tokenizer.json"),
    ] {
        let (from, to) = (golden.join(from), folder.0.join(to));
        fs::create_dir_all(if from.is_dir() { &to } else { to.parent().ok_or("a folder")? })?;
        let names = if from.is_dir() { vec!["config.json", "model.safetensors", "diffusion_pytorch_model.safetensors"] } else { vec![""] };
        for name in names.into_iter().filter(|name| name.is_empty() || from.join(name).is_file()) {
            if name.is_empty() {
                fs::copy(&from, &to)?
            } else {
                fs::copy(from.join(name), to.join(name))?
            };
        }
    }
    fs::create_dir(folder.0.join("scheduler"))?;
    fs::write(folder.0.join("scheduler/scheduler_config.json"), r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#)?;
    let index = r#"{"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}"#;
    fs::write(folder.0.join("model_index.json"), index)?;
    let model = folder.0.display().to_string();
    let latents = folder.0.join("latents.safetensors").display().to_string();
    let run = |decoder: &[&str]| -> Result<(Vec<u8>, Vec<u8>), Box<dyn Error>> {
        let path = folder.0.join("a.y4m");
        let output = generate(&[&["--model", model.as_str(), "--latents-out", latents.as_str()][..], decoder].concat(), &path)?;
        assert!(output.status.success(), "{decoder:?}: {}", errors(&output));
        Ok((fs::read(&path)?, fs::read(&latents)?))
    };
    let [own, tiny, named] = [run(&[])?, run(&["--decoder", "tiny"])?, run(&["--decoder", "../taehv/taew2_1"])?];
    assert!(own.1 == tiny.1, "the latents do not depend on what decodes them");
    assert!(own.0 != tiny.0 && own.0.len() == tiny.0.len(), "a clip of the same size, drawn by another");
    assert!(tiny == named, "`tiny` is the folder of the model that is called taehv");
    for (decoder, said) in [("../taehv/taew2_2", "10 channels"), ("../bert/tiny", "no autoencoder"), ("missing", "missing")] {
        let output = generate(&["--model", &model, "--decoder", decoder], &folder.0.join("b.y4m"))?;
        assert!(!output.status.success() && errors(&output).contains(said), "{decoder}: {}", errors(&output));
    }
    Ok(())
}

#[test]
fn files_that_make_up_no_model_are_refused_with_what_is_missing() -> Outcome {
    let folder = Folder::new("parts-missing")?;
    let path = folder.0.join("a.gif");
    for (words, code, said) in [
        (&FILES[..4], "incomplete-model", "the text encoder of the model"),
        (&FILES[..6], "incomplete-model", "tokenizer.json"),
        (&["--model", "wan_q8_0.gguf", "--vae", "umt5_q8_0.gguf"][..], "wrong-part", "umt5_q8_0.gguf"),
        (&["--model", "expected.safetensors"][..], "invalid-config", "no model that is known"),
        (&[&FILES[..], &["--lora", "vae.safetensors"]].concat()[..], "invalid-request", "names of layers that this model has"),
    ] {
        let output = generate(words, &path)?;
        let told = errors(&output);
        assert!(!output.status.success() && told.contains(&format!("error[{code}]")) && told.contains(said), "{words:?}: {told}");
        assert!(!path.exists(), "nothing is left behind");
    }
    Ok(())
}

#[test]
fn what_files_hold_is_said() -> Outcome {
    let containers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/containers");
    let info = |file: &str| -> Result<serde_json::Value, Box<dyn Error>> {
        let output =
            Command::new(env!("CARGO_BIN_EXE_kinora")).current_dir(&containers).args(["models", "info", file, "--json"]).output()?;
        assert!(output.status.success(), "{file}: {}", errors(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let wan = info("wan_q8_0.gguf")?;
    assert_eq!((wan["class"].as_str(), wan["components"]["transformer"]["config"]["num_layers"].as_u64()), (Some("WanPipeline"), Some(2)));
    assert_eq!(wan["components"]["transformer"]["encodings"], serde_json::json!(["F32", "Q8_0"]), "{wan}");
    let text = info("umt5_fp16.safetensors")?;
    assert_eq!(text["components"]["text_encoder"]["class"], "UMT5EncoderModel", "{text}");
    // Scales are no parameters: as many as in the other file.
    assert_eq!(info("fp8_old.safetensors")?["parameters"], wan["parameters"]);
    Ok(())
}
