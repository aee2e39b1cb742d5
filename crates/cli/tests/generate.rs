//! From a prompt to a file with the tiny model: results, repeatability, interruption and broken models.

mod support;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use support::Folder;

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Folder {
    /// A copy of the tiny model that may be damaged.
    fn model(&self) -> std::io::Result<PathBuf> {
        let copy = self.0.join("model");
        for part in ["", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"] {
            fs::create_dir(copy.join(part))?;
            for entry in fs::read_dir(tiny_model().join(part))?.flatten().filter(|entry| entry.path().is_file()) {
                fs::copy(entry.path(), copy.join(part).join(entry.file_name()))?;
            }
        }
        Ok(copy)
    }
}

fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model")
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.arg("generate").args(words).current_dir(folder).stdin(Stdio::null());
    command
}

/// `kinora generate` with the tiny model on the CPU twins.
fn generate(folder: &Path, words: &[&str]) -> std::io::Result<Output> {
    let model = tiny_model().display().to_string();
    command(folder, &[&["-m", model.as_str(), "--executor", "cpu"], words].concat()).output()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_prompt_becomes_a_file_named_on_standard_output() -> Outcome {
    let folder = Folder::new("file")?;
    let output = generate(&folder.0, &["a red fox!", "--seed", "7"])?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(String::from_utf8(output.stdout)?, "a-red-fox-7.mp4\n");
    let again = generate(&folder.0, &["a red fox!", "--seed", "7", "--quiet"])?;
    assert_eq!(String::from_utf8_lossy(&again.stdout), "a-red-fox-7-2.mp4\n", "a name that is free");
    assert!(again.stderr.is_empty(), "--quiet said {}", stderr(&again));
    assert_eq!(folder.names()?, ["a-red-fox-7-2.mp4", "a-red-fox-7.mp4"]);
    Ok(())
}

#[test]
fn json_tells_what_was_made() -> Outcome {
    let folder = Folder::new("json")?;
    let size = ["--size", "64x32", "--frames", "9", "--steps", "3", "--fps", "8", "--guidance", "1.5"];
    let words = [&["a fox", "-o", "a.gif", "--json", "--progress", "json"], size.as_slice()].concat();
    let output = generate(&folder.0, &words)?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&output.stdout)?;
    for (key, expected) in [("width", 64.0), ("height", 32.0), ("frames", 9.0), ("steps", 3.0), ("fps", 8.0), ("guidance", 1.5)] {
        assert_eq!(result[key].as_f64(), Some(expected), "{key} in {result}");
    }
    assert_eq!(result["sizeBytes"].as_u64(), Some(fs::metadata(folder.0.join("a.gif"))?.len()), "{result}");
    let events: Vec<Value> = stderr(&output).lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert!(kinds.starts_with(&["start", "text", "step", "step", "step", "decode", "write"]), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&"done"));
    assert_eq!(result["seed"], events[0]["seed"], "the random seed is told");
    Ok(())
}

#[test]
fn seeds_and_latents_decide_the_clip() -> Outcome {
    let folder = Folder::new("seed")?;
    let clip = |words: &[&str]| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let output = generate(&folder.0, &[&["a fox", "-o", "-", "--format", "y4m", "-q"], words].concat())?;
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        Ok(output.stdout)
    };
    let seven = clip(&["-s", "7", "--latents-out", "end.safetensors"])?;
    assert!(seven.starts_with(b"YUV4MPEG2 W32 H32 F12:1"), "header");
    assert_eq!(seven.len(), 57 + 5 * (6 + 3 * 32 * 32), "five frames");
    assert!(seven == clip(&["-s", "7"])?, "the same seed gives the same bytes");
    assert!(seven != clip(&["-s", "8"])?, "another seed gives another clip");
    assert!(seven != clip(&["-s", "7", "--guidance", "1"])?, "guidance matters");
    assert!(seven != clip(&["-s", "7", "-n", "water"])?, "the negative prompt matters");
    let from_file = ["--latents-in", "end.safetensors"];
    let given = clip(&from_file)?;
    assert!(given == clip(&[from_file.as_slice(), &["-s", "99"]].concat())?, "given latents replace the seed");
    let wrong = generate(&folder.0, &["a", "-o", "w.gif", "--size", "96x32", "--latents-in", "end.safetensors"])?;
    assert_eq!(wrong.status.code(), Some(2), "latents of another size: {}", stderr(&wrong));
    Ok(())
}

#[test]
fn impossible_sizes_are_refused_with_what_is_possible() -> Outcome {
    let folder = Folder::new("sizes")?;
    for (words, expected) in
        [(["--size", "33x32"], "width"), (["--size", "32x40"], "height"), (["--frames", "6"], "frames"), (["--size", "16x16"], "expected")]
    {
        let output = generate(&folder.0, &[&["a", "-o", "a.gif"], words.as_slice()].concat())?;
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{words:?}: {}", stderr(&output));
    }
    // Before any picture is looked at: scaled first, this one took gigabytes.
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flipbook-shapes.webp").display().to_string();
    let begun = Instant::now();
    for size in ["16384x16384", "4096x4096"] {
        let output = generate(&folder.0, &["a", "-o", "a.gif", "--size", size, "--frames", "17", "--image", &picture])?;
        assert_eq!(output.status.code(), Some(2), "{size}: {}", stderr(&output));
        assert!(stderr(&output).contains("in all frames"), "{size}: {}", stderr(&output));
    }
    assert!(begun.elapsed().as_secs() < 10, "refused after {:?}", begun.elapsed());
    assert_eq!(folder.names()?, [""; 0], "left behind");
    Ok(())
}

#[test]
fn a_default_that_a_model_cannot_make_is_its_own_fault() -> Outcome {
    let folder = Folder::new("default")?;
    let index = folder.model()?.join("model_index.json");
    let good = fs::read_to_string(&index)?;
    for (width, part) in [("40", "a multiple of"), ("2147483648", "in all frames")] {
        fs::write(&index, good.replace(r#""default_width": 32"#, &format!(r#""default_width": {width}"#)))?;
        let run =
            |more: &[&str]| command(&folder.0, &[&["a", "-m", "./model", "-o", "a.gif", "--executor", "cpu"], more].concat()).output();
        let output = run(&[])?;
        assert_eq!(output.status.code(), Some(4), "{width}: {}", stderr(&output));
        for text in ["error[invalid-config]", "model_index.json", "default", part] {
            assert!(stderr(&output).contains(text), "`{text}` is missing: {}", stderr(&output));
        }
        let asked = run(&["--size", "40x32"])?;
        assert_eq!(asked.status.code(), Some(2), "what was asked for is the caller's: {}", stderr(&asked));
    }
    Ok(())
}

#[test]
fn options_are_those_of_the_package() -> Outcome {
    let folder = Folder::new("options")?;
    let made = |words: &[&str]| -> Result<Value, Box<dyn std::error::Error>> {
        let output = generate(&folder.0, &[&["a fox", "-o", "a.gif", "-y", "--json", "-s", "7"], words].concat())?;
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let plain = made(&["--duration", "0.8", "--guidance", "1.5"])?;
    assert_eq!((&plain["frames"], &plain["guidanceCurve"]), (&9.into(), &Value::Null), "9.6 frames at 12 a second: {plain}");
    assert_eq!(made(&["--duration", "0.8", "--frames", "5"])?["frames"], 5, "frames go before seconds");
    let curve = ["--guidance-curve", "power-cosine", "--guidance-power", "2", "--guidance-interval", "0.25..0.75", "--shift", "2.5"];
    let curved = made(&curve)?;
    let expected = serde_json::json!(["power-cosine", 2.0, [0.25, 0.75], 2.5]);
    let found = ["guidanceCurve", "guidancePower", "guidanceInterval", "shift"].map(|key| curved[key].clone());
    assert_eq!(Value::from(found.to_vec()), expected, "{curved}");
    let refused = generate(&folder.0, &["a", "-o", "b.gif", "--guidance-power", "2"])?;
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    Ok(())
}

#[test]
fn broken_models_are_named_by_file() -> Outcome {
    let folder = Folder::new("broken")?;
    let model = folder.model()?;
    let weights = "transformer/diffusion_pytorch_model.safetensors";
    let cut = |path: &Path| fs::read(path).map(|bytes| bytes[..bytes.len() / 2].to_vec());
    let damaged: [(&str, Vec<u8>); 6] = [
        ("model_index.json", b"{".to_vec()),
        ("tokenizer/tokenizer.json", b"[]".to_vec()),
        ("vae/config.json", br#"{"_class_name":"AutoencoderKLWan"}"#.to_vec()),
        ("scheduler/scheduler_config.json", b"".to_vec()),
        (weights, cut(&model.join(weights))?),
        (weights, nan_weights(&fs::read(model.join(weights))?)?),
    ];
    for (file, bytes) in damaged {
        let path = model.join(file);
        let good = fs::read(&path)?;
        fs::write(&path, bytes)?;
        let output = command(&folder.0, &["a", "-m", "./model", "-o", "a.gif", "--executor", "cpu"]).output()?;
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{file}: {message}");
        assert!(message.contains("error[") && !message.contains("panicked"), "{file}: {message}");
        fs::remove_file(&path)?;
        let absent = command(&folder.0, &["a", "-m", "./model", "-o", "a.gif", "--executor", "cpu"]).output()?;
        assert_eq!(absent.status.code(), Some(4), "without {file}: {}", stderr(&absent));
        fs::write(&path, good)?;
    }
    assert_eq!(folder.names()?, ["model"], "left behind");
    Ok(())
}

/// The same file with every f16 value set to NaN.
fn nan_weights(file: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let start = 8 + usize::try_from(u64::from_le_bytes(file[..8].try_into()?))?;
    let mut file = file.to_vec();
    file[start..].chunks_exact_mut(2).for_each(|value| value.copy_from_slice(&[0x00, 0x7e]));
    Ok(file)
}

#[test]
fn without_an_adapter_the_exit_code_is_3() -> Outcome {
    let folder = Folder::new("adapter")?;
    let model = tiny_model().display().to_string();
    let mut command = command(&folder.0, &["a", "-m", model.as_str(), "-o", "a.gif"]);
    let output = command.env("VK_ICD_FILENAMES", "none.json").env("VK_DRIVER_FILES", "none.json").output()?;
    // Metal and Direct3D need no driver manifest.
    if cfg!(target_os = "linux") {
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains("hint"), "{}", stderr(&output));
    }
    let unknown = generate(&folder.0, &["a", "-o", "a.gif", "--device", "no such adapter"])?;
    assert_eq!(unknown.status.code(), Some(2), "--device and --executor contradict: {}", stderr(&unknown));
    assert_eq!(folder.names()?, [""; 0], "left behind");
    Ok(())
}

#[test]
fn a_clip_larger_than_the_device_allows_exits_5() -> Outcome {
    let folder = Folder::new("limit")?;
    let model = tiny_model().display().to_string();
    // One frame needs 3.2 GB in one buffer, more than any adapter of the tests binds.
    let words = ["a", "-m", model.as_str(), "--size", "16384x16384", "--frames", "1", "--steps", "1", "-o", "a.gif"];
    let output = command(&folder.0, &words).output()?;
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    for text in ["error[limit]", "bytes in one buffer; this device allows", "lower the size"] {
        assert!(stderr(&output).contains(text), "`{text}` is missing: {}", stderr(&output));
    }
    assert!(!stderr(&output).contains("f16"), "neither that nor fewer frames help: {}", stderr(&output));
    assert_eq!(folder.names()?, [""; 0], "left behind");
    Ok(())
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_exits_130_and_leaves_nothing() -> Outcome {
    let folder = Folder::new("interrupt")?;
    let model = tiny_model().display().to_string();
    let words = ["a", "-m", model.as_str(), "--executor", "cpu", "--size", "256x256", "--frames", "33", "--steps", "1000", "-o", "a.gif"];
    for (signal, delay_ms) in [("INT", 100), ("TERM", 700)] {
        let child = command(&folder.0, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        std::thread::sleep(Duration::from_millis(delay_ms));
        let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status()?;
        assert!(killed.success(), "the run ended before it could be interrupted");
        let output = child.wait_with_output()?;
        assert_eq!(output.status.code(), Some(130), "SIG{signal}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "nothing was made");
        assert_eq!(folder.names()?, [""; 0], "left behind after SIG{signal}");
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_clip_without_an_end_is_ended_by_an_interrupt() -> Outcome {
    use std::io::{BufRead as _, BufReader, Read as _};
    const HEADER_BYTES: usize = 57;
    const FRAME_BYTES: usize = 6 + 3 * 32 * 32;
    let folder = Folder::new("endless")?;
    let model = tiny_model().display().to_string();
    let words = ["a", "-m", &model, "--executor", "cpu", "--frames", "0", "--overlap", "1", "--steps", "1", "--guidance", "1", "-s", "7"];
    let begin = |more: &[&str]| command(&folder.0, &[&words, more].concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let interrupt = |process: u32| Command::new("kill").args(["-s", "INT", &process.to_string()]).status();

    // Twelve frames are those of three windows, read while a fourth is made.
    let mut child = begin(&["-o", "-", "--format", "y4m"])?;
    let mut stdout = child.stdout.take().ok_or("a pipe")?;
    let mut clip = vec![0; HEADER_BYTES + 12 * FRAME_BYTES];
    stdout.read_exact(&mut clip)?;
    interrupt(child.id())?;
    stdout.read_to_end(&mut clip)?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((clip.len() - HEADER_BYTES) % FRAME_BYTES, 0, "whole frames");
    assert!(clip.len() > HEADER_BYTES + 12 * FRAME_BYTES, "and the one that no window replaces");

    // Who closes the pipe has seen enough.
    let mut child = begin(&["-o", "-", "--format", "y4m"])?;
    child.stdout.take().ok_or("a pipe")?.read_exact(&mut clip[..HEADER_BYTES + FRAME_BYTES])?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let mut child = begin(&["-o", "a.gif", "--progress", "json", "--json"])?;
    let mut told = BufReader::new(child.stderr.take().ok_or("a pipe")?);
    let mut line = String::new();
    while !line.contains(r#""frame":5,"#) {
        line.clear();
        assert!(told.read_line(&mut line)? > 0, "it ended by itself");
    }
    interrupt(child.id())?;
    std::io::copy(&mut told, &mut std::io::sink())?;
    let output = child.wait_with_output()?;
    let result: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((output.status.code(), folder.names()?), (Some(0), vec!["a.gif".to_owned()]), "the file has its name");
    assert!(result["frames"].as_u64() > Some(5), "{result}");

    let refused = generate(&folder.0, &["a", "--frames", "0", "--overlap", "1", "-o", "b.apng"])?;
    assert_eq!(refused.status.code(), Some(6), "a format that begins with the number of frames: {}", stderr(&refused));
    Ok(())
}

#[test]
fn the_gpu_draws_what_the_twins_draw() -> Outcome {
    let folder = Folder::new("gpu")?;
    let model = tiny_model().display().to_string();
    let words = ["a fox", "-m", model.as_str(), "-s", "7", "-o", "-", "--format", "y4m", "-q"];
    let gpu = command(&folder.0, &words).output()?;
    assert_eq!(gpu.status.code(), Some(0), "{}", stderr(&gpu));
    let cpu = command(&folder.0, &[&words[..], &["--executor", "cpu"]].concat()).output()?;
    assert_eq!((cpu.status.code(), cpu.stdout.len()), (Some(0), gpu.stdout.len()), "{}", stderr(&cpu));
    let far = gpu.stdout.iter().zip(&cpu.stdout).filter(|(a, b)| a.abs_diff(**b) > 1).count();
    assert_eq!(far, 0, "bytes that differ by more than one level");
    Ok(())
}

#[test]
fn previews_are_shown_and_the_clip_is_decoded_if_somebody_says_so() -> Outcome {
    let folder = Folder::new("show")?;
    let words = ["a fox", "--steps", "4", "--show=blocks", "--confirm", "-o", "fox.gif"];
    let shown = generate(&folder.0, &words)?;
    assert_eq!(shown.status.code(), Some(130), "nobody says yes: {}", stderr(&shown));
    assert!(stderr(&shown).contains("▀\u{1b}[0m\n") && stderr(&shown).contains("decode this clip? [Y/n]"), "{}", stderr(&shown));
    assert!(folder.names()?.is_empty(), "and nothing is left: {:?}", folder.names()?);
    let model = tiny_model().display().to_string();
    let mut child = command(&folder.0, &[&["-m", model.as_str(), "--executor", "cpu"], &words[..]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Closed afterwards: nobody is asked twice.
    child.stdin.take().ok_or("no standard input")?.write_all(b"y\n")?;
    let said = child.wait_with_output()?;
    assert_eq!(said.status.code(), Some(0), "{}", stderr(&said));
    assert_eq!(folder.names()?, ["fox.gif"]);
    Ok(())
}

#[test]
fn compiled_kernels_are_kept_for_the_next_process() -> Outcome {
    let folder = Folder::new("kernels")?;
    let model = tiny_model().display().to_string();
    let words = ["-m", model.as_str(), "a", "--frames", "1", "--steps", "1", "-o", "a.png", "-y", "--json", "-q"];
    let run = || -> Result<String, Box<dyn std::error::Error>> {
        let output = command(&folder.0, &words).env("KINORA_KERNEL_CACHE", folder.0.join("kept")).output()?;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout)?;
        Ok(report["savedKernels"].as_str().unwrap_or_default().to_owned())
    };
    let first = run()?;
    if first == "unsupported" {
        assert!(!folder.0.join("kept").exists(), "nothing to keep");
        return Ok(());
    }
    assert_eq!((first.as_str(), run()?.as_str()), ("fresh", "reused"));
    let kept: Vec<_> = fs::read_dir(folder.0.join("kept"))?.collect::<Result<_, _>>()?;
    assert_eq!(kept.len(), 1, "one file for one driver, and nothing partial: {kept:?}");
    let file = kept[0].path();
    let whole = fs::read(&file)?;
    fs::write(&file, &whole[..whole.len() - 1])?;
    assert_eq!((run()?.as_str(), run()?.as_str()), ("refused", "reused"), "what is damaged is replaced");
    Ok(())
}
