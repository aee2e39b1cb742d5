//! The command as scripts meet it: exit codes, what goes to which stream, and messages that help.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::JoinHandle,
};

use support::Folder;

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Folder {
    fn entries(&self) -> std::io::Result<usize> {
        Ok(fs::read_dir(&self.0)?.count())
    }
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.args(words).current_dir(folder).env("KINORA_MODELS", folder.join("models")).stdin(Stdio::null());
    command
}

fn kinora(folder: &Path, words: &[&str]) -> std::io::Result<Output> {
    command(folder, words).output()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout_json(output: &Output) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_slice(&output.stdout)
}

/// A safetensors file: a matrix of this shape in f32 and a quantised one of 8 values.
fn safetensors(shape: &[usize]) -> Vec<u8> {
    let bytes = 4 * shape.iter().product::<usize>();
    let (scales, end) = (bytes + 8, bytes + 12);
    let header = format!(
        r#"{{"weight":{{"dtype":"F32","shape":{shape:?},"data_offsets":[0,{bytes}]}},"q":{{"dtype":"I8","shape":[2,4],"data_offsets":[{bytes},{scales}]}},"q.scale":{{"dtype":"F16","shape":[2,1],"data_offsets":[{scales},{end}]}}}}"#
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(1f32.to_le_bytes().repeat(bytes / 4 + 3));
    file
}

/// A model folder with the layout of a real one and nothing that could run.
fn fake_model(models: &Path) -> std::io::Result<PathBuf> {
    let folder = models.join("tiny");
    fs::create_dir_all(folder.join("transformer"))?;
    fs::write(
        folder.join("model_index.json"),
        r#"{"_class_name":"LTXPipeline","transformer":["diffusers","LTXVideoTransformer3DModel"],"scheduler":["diffusers","S"],
            "kinora":{"name":"Tiny","default_width":64,"default_height":32,"default_frames":9,"fps":12.5,"vocabulary":"words.json"}}"#,
    )?;
    fs::write(folder.join("transformer/config.json"), r#"{"num_layers":2}"#)?;
    fs::write(folder.join("transformer/model.safetensors"), safetensors(&[300, 1000]))?;
    fs::write(
        folder.join("words.json"),
        r#"{"template":"a {object} {motion}","colors":["blue"],"objects":[{"name":"rocket","synonyms":["spaceship"],"motions":["flying"]}]}"#,
    )?;
    Ok(folder)
}

#[test]
fn usage_errors_exit_2_and_keep_standard_output_empty() -> Outcome {
    let folder = Folder::new("usage")?;
    for words in [
        vec![],
        vec!["generate"],
        vec!["generate", "a", "--size", "7"],
        vec!["generate", "a", "--frobnicate"],
        vec!["generate", "a", "-o", "a.webm"],
        vec!["generate", "a", "-o", "-"],
        vec!["generate", "a", "-o", "-", "--format", "png"],
        vec!["generate", "a", "-o", "-", "--format", "gif", "--json", "--quiet"],
        vec!["generate", "--prompt-file", "missing.txt"],
        vec!["eval", "--model", "m"],
        vec!["models", "pull"],
        vec!["server"],
    ] {
        let output = kinora(&folder.0, &words)?;
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty(), "{words:?} says nothing");
        if !words.contains(&"--json") {
            assert!(output.stdout.is_empty(), "{words:?} wrote to standard output");
        }
    }
    assert_eq!(folder.entries()?, 0, "files left behind");
    Ok(())
}

#[test]
fn errors_name_what_where_and_the_remedy() -> Outcome {
    let folder = Folder::new("errors")?;
    fs::write(folder.0.join("taken.gif"), "precious")?;
    let generate = |more: &[&str]| kinora(&folder.0, &[&["generate", "a", "--seed", "1"], more].concat());
    for (more, exit, expected) in [
        (["-o", "taken.gif"], 6, ["`taken.gif` already exists", "--overwrite"]),
        (["-o", "no/such/a.gif"], 6, ["cannot write `no/such/a.gif`", "check that the folder exists"]),
        (["-m", "nowhere"], 4, ["no model `nowhere`", "KINORA_MODELS"]),
        (["-m", "./nowhere"], 4, ["looked at `./nowhere`", "--model DIR"]),
    ] {
        let output = generate(&more)?;
        assert_eq!(output.status.code(), Some(exit), "{more:?}: {}", stderr(&output));
        for text in expected {
            assert!(stderr(&output).contains(text), "`{text}` is missing: {}", stderr(&output));
        }
        assert!(output.stdout.is_empty(), "{more:?} wrote to standard output");
    }
    assert_eq!(fs::read(folder.0.join("taken.gif"))?, b"precious");
    assert_eq!(folder.entries()?, 1, "files left behind");
    Ok(())
}

#[test]
fn json_errors_are_one_object_on_standard_output() -> Outcome {
    let folder = Folder::new("json")?;
    let output = kinora(&folder.0, &["generate", "a", "-m", "./nowhere", "--json"])?;
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let error = &stdout_json(&output)?["error"];
    assert_eq!((error["code"].as_str(), error["exit"].as_u64()), (Some("model-not-found"), Some(4)), "{error}");
    assert!(error["message"].is_string() && error["hint"].is_string(), "{error}");
    Ok(())
}

#[test]
fn color_follows_flag_and_environment() -> Outcome {
    let folder = Folder::new("color")?;
    let colored = |flags: &[&str], name: &str, value: &str| -> std::io::Result<bool> {
        let words = [&["models", "info", "./nowhere"], flags].concat();
        let output = command(&folder.0, &words).env(name, value).output()?;
        Ok(stderr(&output).contains('\x1b'))
    };
    assert!(!colored(&[], "X", "")?, "a pipe is no terminal");
    assert!(colored(&[], "CLICOLOR_FORCE", "1")?, "CLICOLOR_FORCE");
    assert!(colored(&["--color", "always"], "NO_COLOR", "1")?, "the flag beats NO_COLOR");
    assert!(!colored(&["--color", "never"], "CLICOLOR_FORCE", "1")?, "the flag beats CLICOLOR_FORCE");
    Ok(())
}

#[test]
fn a_model_is_described_from_its_headers() -> Outcome {
    let folder = Folder::new("info")?;
    let model = fake_model(&folder.0.join("models"))?;
    let output = kinora(&folder.0, &["models", "info", "tiny"])?;
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout)?;
    for expected in [
        "Tiny: LTXPipeline",
        "9 frames of 64x32 at 12.5 fps",
        "0.3 M",
        "1.2 MB",
        "LTXVideoTransformer3DModel",
        "blue",
        "rocket (spaceship): flying",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing:\n{text}");
    }
    let json = stdout_json(&kinora(&folder.0, &["models", "info", "tiny", "--json"])?)?;
    assert_eq!(json["parameters"], 300_008, "scales are no parameters: {json}");
    assert_eq!(json["components"]["transformer"]["config"]["num_layers"], 2, "{json}");
    let list = stdout_json(&kinora(&folder.0, &["models", "list", "--json"])?)?;
    assert!(list.as_array().is_some_and(|models| models.iter().any(|model| model["name"] == "tiny")), "{list}");

    // What a model says is text of others.
    let index = model.join("model_index.json");
    let honest = fs::read_to_string(&index)?;
    fs::write(folder.0.join("models/private.json"), r#"{"secret":"TOPSECRET"}"#)?;
    for (from, to) in [("words.json", "../private.json"), ("words.json", "/dev/zero"), ("words.json", "..")] {
        fs::write(&index, honest.replace(from, to))?;
        let output = kinora(&folder.0, &["models", "info", "tiny", "--json"])?;
        assert_eq!(output.status.code(), Some(4), "{to}: {}", stderr(&output));
        assert!(!String::from_utf8_lossy(&output.stdout).contains("TOPSECRET"), "{to}");
    }
    fs::write(&index, honest.replace("\"Tiny\"", r#""\u001b[2JTiny""#).replace("\"scheduler\"", "\"/etc\""))?;
    let text = String::from_utf8(kinora(&folder.0, &["models", "info", "tiny"])?.stdout)?;
    assert!(text.starts_with(r"\u{1b}[2JTiny:") && !text.contains("/etc"), "{text:?}");
    fs::write(&index, honest)?;

    let weights = model.join("transformer/model.safetensors");
    let good = fs::read(&weights)?;
    let huge_header = [u64::MAX.to_le_bytes().to_vec(), good[8..].to_vec()].concat();
    let not_json = [good[..8].to_vec(), vec![b'#'; good.len() - 8]].concat();
    for (what, bytes) in [("empty", vec![]), ("cut", good[..40].to_vec()), ("huge header", huge_header), ("not JSON", not_json)] {
        fs::write(&weights, bytes)?;
        let output = kinora(&folder.0, &["models", "info", "tiny"])?;
        assert_eq!(output.status.code(), Some(4), "{what}: {}", stderr(&output));
        assert!(stderr(&output).contains("model.safetensors"), "{what}: {}", stderr(&output));
    }
    Ok(())
}

#[test]
fn the_prompt_can_come_from_standard_input() -> Outcome {
    let folder = Folder::new("stdin")?;
    for (bytes, exit) in [(b"a rocket\n".as_slice(), 4), (b"\xff\xfe", 2)] {
        let mut child = command(&folder.0, &["generate", "-", "-m", "./nowhere"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("no standard input")?.write_all(bytes)?;
        let output = child.wait_with_output()?;
        assert_eq!(output.status.code(), Some(exit), "{}", stderr(&output));
    }
    Ok(())
}

#[test]
fn help_and_version_go_to_standard_output() -> Outcome {
    let folder = Folder::new("help")?;
    let help = kinora(&folder.0, &["--help"])?;
    let text = String::from_utf8(help.stdout)?;
    for expected in ["generate", "eval", "models", "doctor", "Exit codes", "130"] {
        assert!(text.contains(expected), "`{expected}` is missing:\n{text}");
    }
    let text = String::from_utf8(kinora(&folder.0, &["generate", "--help"])?.stdout)?;
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_suffix(':')).filter(|line| !line.starts_with(' ')).collect();
    let expected = ["Options", "Prompt", "Size and length", "Sampling", "Output", "Model and device", "Progress"];
    assert_eq!(headings, expected, "{text}");
    let version = String::from_utf8(kinora(&folder.0, &["--version"])?.stdout)?;
    assert_eq!(version.trim(), format!("kinora {}", env!("CARGO_PKG_VERSION")));
    Ok(())
}

#[test]
fn a_closed_pipe_is_no_error() -> Outcome {
    let folder = Folder::new("pipe")?;
    fake_model(&folder.0.join("models"))?;
    let mut child = command(&folder.0, &["models", "info", "tiny"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    Ok(())
}

#[test]
fn the_example_of_the_readme_is_the_one_that_compiles() {
    let readme = include_str!("../../../README.md");
    let code = include_str!("../examples/first_clip.rs").split_once("\n\n").map_or("", |(_, code)| code);
    assert!(readme.contains(&format!("```rust\n{code}```")), "copy examples/first_clip.rs into README.md");
}

/// A server that gives each request in turn one of the answers, its address, and the requests once all came.
#[cfg(unix)]
fn language_model(answers: &[(&'static str, &'static str)]) -> std::io::Result<(String, JoinHandle<std::io::Result<Vec<String>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/v1/", listener.local_addr()?);
    let answers = answers.to_vec();
    let serve = move || answers.into_iter().map(|answer| serve(&listener, answer)).collect();
    Ok((url, std::thread::spawn(serve)))
}

#[cfg(unix)]
fn serve(listener: &TcpListener, (status, body): (&str, &str)) -> std::io::Result<String> {
    let (mut stream, _) = listener.accept()?;
    let (mut asked, mut part) = (String::new(), [0; 4096]);
    let complete = |asked: &str| {
        let (head, body) = asked.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok())?;
        Some(body.len() >= length)
    };
    while complete(&asked) != Some(true) {
        let read = stream.read(&mut part)?;
        asked.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    Ok(asked)
}

#[cfg(unix)]
#[test]
fn prompts_are_expanded_shown_and_kept() -> Outcome {
    let folder = Folder::new("expand")?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model").display().to_string();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.args(["generate", "--executor", "cpu", "--json", "-y", "-o", "a.gif", "-s", "7", "-m", &model]);
        command.args(words).current_dir(&folder.0).stdin(Stdio::null()).output()
    };
    let program = folder.0.join("louder");
    fs::write(&program, "#!/bin/sh\nsed s/fox/FOX/\necho seed $KINORA_SEED\n")?;
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let output = run(&["a fox; $(touch x)", "--expand-with", "./louder"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(json["originalPrompt"], "a fox; $(touch x)", "what was asked for");
    assert_eq!(json["prompt"], "a FOX; $(touch x)seed 7", "{json}");
    assert!(said.contains("prompt: a FOX") && !folder.0.join("x").exists(), "shown, and not executed: {said}");
    let (url, server) = language_model(&[("200 OK", r#"{"choices":[{"message":{"content":" a red fox running "}}]}"#)])?;
    let output = run(&["a fox", "--expand-at", &url, "--expand-model", "tiny"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((json["originalPrompt"].as_str(), json["prompt"].as_str()), (Some("a fox"), Some("a red fox running")), "{json}");
    let asked = server.join().expect("the server ran")?.remove(0);
    let (head, body) = asked.split_once("\r\n\r\n").expect("a request");
    let body: serde_json::Value = serde_json::from_str(body)?;
    assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
    assert_eq!(body["messages"][1]["content"], "a fox", "{body}");
    assert!(body["model"] == "tiny" && body["seed"] == 7, "{body}");
    let (url, server) = language_model(&[("401 Unauthorized", "no key"), ("200 OK", "no JSON"), ("200 OK", "{}")])?;
    for problem in ["401", "no JSON", "no text"] {
        let output = run(&["a fox", "--expand-at", &url, "--expand-model", "tiny"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("expand-failed") && said.contains(problem), "{problem}: {said}");
    }
    server.join().expect("the server ran")?;
    for words in [&["a", "--expand"][..], &["a", "--expand-with", "./missing"], &["a", "--expand-with", "/bin/false"]] {
        let output = run(words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("expand-failed"), "{words:?}: {said}");
    }
    Ok(())
}

#[test]
fn prompts_are_read_in_the_words_of_the_model() -> Outcome {
    let folder = Folder::new("words")?;
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    let model = folder.0.join("models/worded");
    for part in ["scheduler", "tokenizer", "text_encoder", "transformer", "vae"] {
        fs::create_dir_all(model.join(part))?;
        for file in fs::read_dir(tiny.join(part))? {
            let file = file?;
            fs::copy(file.path(), model.join(part).join(file.file_name()))?;
        }
    }
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(tiny.join("model_index.json"))?)?;
    index["kinora"]["vocabulary"] = "words.json".into();
    fs::write(model.join("model_index.json"), index.to_string())?;
    let words = r#"{"template": "a {object} {motion} on a {color} background", "colors": ["white", "blue"], "objects": [
        {"name": "fox", "synonyms": ["vixen"], "motions": ["nodding", "looking around"]},
        {"name": "owl", "synonyms": [], "motions": ["blinking"]}]}"#;
    fs::write(model.join("words.json"), words)?;
    let run = |words: &[&str]| -> Result<(serde_json::Value, String), Box<dyn std::error::Error>> {
        let always = ["generate", "-m", "worded", "--executor", "cpu", "--json", "-y", "-s", "7", "--steps", "1"];
        let output = kinora(&folder.0, &[&always, words].concat())?;
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        Ok((stdout_json(&output)?, stderr(&output)))
    };

    let (json, said) = run(&["Two VIXENS, on a blue wall!", "-o", "a.apng"])?;
    assert_eq!((&json["prompt"], &json["used"]), (&"a fox nodding on a blue background".into(), &"fox, nodding, blue".into()), "{json}");
    assert_eq!((&json["originalPrompt"], &json["ignored"]), (&"Two VIXENS, on a blue wall!".into(), &serde_json::json!(["Two"])), "{json}");
    assert!(said.contains("drawn as: fox, nodding, blue; not drawn: Two"), "{said}");
    let file = String::from_utf8_lossy(&fs::read(folder.0.join("a.apng"))?).into_owned();
    assert!(file.contains("fox, nodding, blue") && file.contains("Two VIXENS"), "both are kept in the file");

    let (json, _) = run(&["a castle with an owl", "-o", "a.apng"])?;
    let expected = serde_json::json!([{ "word": "castle", "nearest": "owl" }]);
    assert_eq!((&json["unknown"], &json["used"]), (&expected, &"owl, blinking, white".into()), "{json}");
    let (json, said) = run(&["a vixen", "--literal", "-o", "a.apng"])?;
    assert_eq!((&json["prompt"], &json["used"], &json["originalPrompt"]), (&"a vixen".into(), &().into(), &().into()), "{json}");
    assert!(!said.contains("drawn as"), "{said}");
    let (json, _) = run(&["something nobody listed", "-o", "a.apng"])?;
    assert_eq!((&json["prompt"], &json["used"]), (&"something nobody listed".into(), &().into()), "no encoder knows better here");
    let (json, _) = run(&["fox", "--then", "OWL", "--overlap", "1", "-o", "a.apng"])?;
    assert_eq!(
        (&json["given"]["then"], &json["used"]),
        (&serde_json::json!(["OWL"]), &"fox, nodding, white; then owl, blinking, white".into()),
        "{json}"
    );
    Ok(())
}
