//! A script of scenes becomes one film, and only what changed is made again.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::Folder;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SCRIPT: &str = r#"
frames = 9
overlap = 1
steps = 2
seed = 7
style = "blue"
cast = { hero = "a fox" }

[[scene]]
prompt = "{hero} runs"

[[scene]]
continues = true
prompt = "{hero} sleeps"

[[scene]]
prompt = "water"
"#;

fn storyboard(folder: &Path, words: &[&str]) -> std::io::Result<Output> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model").display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.arg("storyboard").args(words).args(["--", "-m", &model, "--executor", "cpu"]);
    command.current_dir(folder).stdin(Stdio::null()).output()
}

fn json(output: &Output) -> Result<Value, Box<dyn std::error::Error>> {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn scenes_become_a_film_and_changed_ones_are_made_again() -> Outcome {
    let folder = Folder::new("storyboard")?;
    fs::write(folder.0.join("film.toml"), SCRIPT)?;
    let words = ["film.toml", "-o", "film.gif", "--scenes", "shots", "--json", "-q"];
    let film = json(&storyboard(&folder.0, &words)?)?;
    let shots = film["shots"].as_array().ok_or("shots")?;
    let frames: Vec<u64> = shots.iter().filter_map(|shot| shot["frames"].as_u64()).collect();
    assert_eq!((shots.len(), film["frames"].as_u64()), (2, Some(frames.iter().sum())), "{film}");
    assert_eq!(shots[0]["prompt"], "a fox runs, blue");
    assert_eq!(frames[1], 9);
    let whole = fs::read(folder.0.join("film.gif"))?;

    let of_shot = |name: &str| fs::metadata(folder.0.join("shots").join(name)).and_then(|file| file.modified());
    let before = (of_shot("shot-001.apng")?, of_shot("shot-002.apng")?);
    fs::write(folder.0.join("film.toml"), SCRIPT.replace("water", "fire"))?;
    let words = ["film.toml", "-o", "other.gif", "--scenes", "shots", "--json", "-q"];
    assert_eq!(json(&storyboard(&folder.0, &words)?)?["frames"], film["frames"]);
    assert_eq!(of_shot("shot-001.apng")?, before.0, "the first was there");
    assert!(of_shot("shot-002.apng")? > before.1, "the second is another");
    assert!(fs::read(folder.0.join("other.gif"))? != whole);

    let again = storyboard(&folder.0, &words)?;
    assert_eq!(again.status.code(), Some(6), "a film is not replaced without -y: {}", String::from_utf8_lossy(&again.stderr));
    Ok(())
}

#[test]
fn what_cannot_be_a_film_is_refused_before_anything_is_made() -> Outcome {
    let folder = Folder::new("storyboard-refused")?;
    let unlike = "[[scene]]\nprompt = \"a\"\nframes = 5\n[[scene]]\nprompt = \"b\"\nframes = 5\nsize = \"64x32\"\n";
    for (script, part) in [
        (unlike, "all of a film must be alike"),
        ("[[scene]]\nprompt = \"a\"\nsteps = 0\n", "shot 1"),
        ("[[scene]]\nprompt = \"a\"\nmodel = \"b\"\n", "same for the whole batch"),
        ("[[scene]\n", "film.toml"),
    ] {
        fs::write(folder.0.join("film.toml"), script)?;
        let output = storyboard(&folder.0, &["film.toml", "-o", "film.gif", "--scenes", "shots"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(part), "{script}: {:?} {said}", output.status);
        assert!(!folder.0.join("film.gif").exists());
    }
    assert_eq!(fs::read_dir(folder.0.join("shots"))?.count(), 0, "nothing is left");
    Ok(())
}
