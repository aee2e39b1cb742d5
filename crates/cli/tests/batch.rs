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
        ("{\"prompt\": \"a\", \"output\": \"x.gif\"}\n{\"prompt\": \"b\", \"output\": \"x.gif\"}", "two clips"),
        ("{\"prompt\": \"a\", \"output\": \"x.gif\"}\n{\"prompt\": \"b\", \"output\": \"y.gif\", \"width\": 33}", "width"),
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
