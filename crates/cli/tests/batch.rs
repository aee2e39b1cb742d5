//! Many clips of one command, with the tiny model on the CPU twins: each is the one that would be made alone.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::Folder;

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Folder {
    fn generate(&self, words: &[&str]) -> std::io::Result<Output> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.args(["generate", "--executor", "cpu", "--json", "-m"]).arg(model);
        command.args(words).current_dir(&self.0).stdin(Stdio::null()).output()
    }

    fn made(&self, words: &[&str]) -> Result<Value, Box<dyn std::error::Error>> {
        let output = self.generate(words)?;
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn bytes(&self, name: &str) -> std::io::Result<Vec<u8>> {
        fs::read(self.0.join(name))
    }
}

#[test]
fn each_line_becomes_the_clip_it_would_be_alone() -> Outcome {
    let folder = Folder::new("lines")?;
    folder.made(&["a", "-s", "1", "-o", "start.png", "--frames", "1"])?;
    let lines = [
        r#"{"prompt": "a fox", "seed": 7, "output": "fox.gif", "size": "64x32"}"#,
        "",
        r#"{"prompt": "water", "seed": 8, "output": "water.y4m", "frames": 9, "guidance": 1}"#,
        r#"{"prompt": "a fox", "seed": 9, "output": "moves.apng", "image": "start.png", "steps": 3}"#,
    ];
    fs::write(folder.0.join("jobs.jsonl"), lines.join("\n"))?;
    let json = folder.made(&["--batch", "jobs.jsonl", "--steps", "2"])?;
    let paths: Vec<_> = json["clips"].as_array().into_iter().flatten().map(|clip| clip["path"].as_str()).collect();
    assert_eq!(paths, [Some("fox.gif"), Some("water.y4m"), Some("moves.apng")], "{json}");
    assert_eq!((&json["clips"][2]["given"]["image"], &json["clips"][2]["steps"]), (&"start.png".into(), &3.into()), "{json}");
    let alone = |words: &[&str], name: &str| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        folder.made(&[words, &["-y", "-o", name]].concat())?;
        Ok(folder.bytes(name)?)
    };
    assert!(folder.bytes("fox.gif")? == alone(&["a fox", "-s", "7", "--size", "64x32", "--steps", "2"], "b.gif")?, "fox");
    assert!(folder.bytes("water.y4m")? == alone(&["water", "-s", "8", "--frames", "9", "--guidance", "1"], "b.y4m")?, "water");
    assert!(folder.bytes("moves.apng")? == alone(&["a fox", "-s", "9", "-i", "start.png", "--steps", "3"], "b.apng")?, "moves");
    Ok(())
}

#[test]
fn variations_are_the_clips_of_the_next_seeds() -> Outcome {
    let folder = Folder::new("seeds")?;
    let json = folder.made(&["a fox", "-s", "7", "--variations", "3", "-o", "fox.gif"])?;
    assert_eq!(json["clips"].as_array().map(Vec::len), Some(3), "{json}");
    folder.made(&["a fox", "-s", "9", "-o", "nine.gif"])?;
    assert!(folder.bytes("fox-9.gif")? == folder.bytes("nine.gif")?, "the third of 7, 8, 9");
    assert!(folder.bytes("fox-7.gif")? != folder.bytes("fox-8.gif")?, "seeds differ");
    Ok(())
}

#[test]
fn wrong_batches_are_refused_before_anything_is_made() -> Outcome {
    let folder = Folder::new("wrong")?;
    for (text, part) in [
        ("", "no generation"),
        ("{\"prompt\": \"a\"}\n{", "line 2"),
        ("{\"prompt\": \"a\", \"frame\": 5}", "--frame"),
        ("{\"prompt\": \"a\", \"output\": \"x.gif\"}\n{\"prompt\": \"b\", \"output\": \"x.gif\"}", "two files"),
        ("{\"prompt\": \"a\", \"output\": \"x.gif\"}\n{\"prompt\": \"b\", \"output\": \"y.gif\", \"width\": 33}", "width"),
        ("{\"prompt\": \"a\", \"output\": \"x.gif\"}\n{\"prompt\": \"b\", \"output\": \"./x.gif\"}", "the same file"),
        ("{\"prompt\": \"a\", \"output\": \"fr/\"}\n{\"prompt\": \"b\", \"output\": \"fr/frame-%04d.png\"}", "the same file"),
    ] {
        fs::write(folder.0.join("jobs.jsonl"), text)?;
        let output = folder.generate(&["--batch", "jobs.jsonl"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(part), "{text}: {said}");
    }
    for words in [&["a", "--batch", "jobs.jsonl"][..], &["--batch", "missing.jsonl"], &["--batch", "jobs.jsonl", "-o", "x.gif"]] {
        assert_eq!(folder.generate(words)?.status.code(), Some(2), "{words:?}");
    }
    assert!(!folder.0.join("x.gif").exists(), "nothing was made");
    Ok(())
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() -> Outcome {
    let folder = Folder::new("mark")?;
    fs::write(folder.0.join("jobs.jsonl"), "\u{feff}{\"prompt\": \"a fox\", \"output\": \"a.gif\"}\r\n")?;
    assert_eq!(folder.made(&["--batch", "jobs.jsonl"])?["clips"][0]["prompt"], "a fox");
    fs::write(folder.0.join("prompt.txt"), "\u{feff}a fox\r\n")?;
    assert_eq!(folder.made(&["--prompt-file", "prompt.txt", "-o", "b.gif"])?["prompt"], "a fox");
    fs::write(folder.0.join("long.txt"), "a ".repeat(600_000))?;
    for words in [&["--prompt-file", "long.txt"][..], &["--prompt-file", "/dev/zero"], &["--batch", "/dev/zero"]] {
        let output = folder.generate(words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("longer than"), "{words:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_clip_that_fails_does_not_take_the_others_with_it() -> Outcome {
    let folder = Folder::new("partly")?;
    let lines =
        [r#"{"prompt": "a", "output": "a.gif"}"#, r#"{"prompt": "b", "output": "gone/b.gif"}"#, r#"{"prompt": "c", "output": "c.gif"}"#];
    fs::write(folder.0.join("jobs.jsonl"), lines.join("\n"))?;
    fs::create_dir(folder.0.join("gone"))?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.args(["generate", "--executor", "cpu", "--json", "--steps", "400", "--progress", "json", "-m"]).arg(model);
    let mut child = command.args(["--batch", "jobs.jsonl"]).current_dir(&folder.0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Once it computes, everything was checked.
    let mut told = std::io::BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let mut line = String::new();
    while !line.contains("step") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut told, &mut line)? > 0, "it ended before the first step");
    }
    fs::remove_dir(folder.0.join("gone"))?;
    std::io::copy(&mut told, &mut std::io::sink())?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(6), "the clip that failed decides");
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let clips = &json["clips"];
    assert_eq!((&clips[0]["path"], &clips[2]["path"]), (&"a.gif".into(), &"c.gif".into()), "{json}");
    assert_eq!((&clips[1]["error"]["code"], &json["error"]["code"]), (&"output-failed".into(), &"output-failed".into()), "{json}");
    assert!(json["error"]["message"].as_str().is_some_and(|text| text.contains("2 of 3 clips were written: a.gif, c.gif")), "{json}");
    assert!(folder.bytes("a.gif")?.starts_with(b"GIF89a") && folder.bytes("c.gif")?.starts_with(b"GIF89a"), "both are there");
    Ok(())
}
