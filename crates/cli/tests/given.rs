//! Images, clips and masks on the command line, with the tiny model on the CPU twins: what is made, and what is refused.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::Folder;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Fills a folder with `a.png`, `b.png` (32×32), `small.png` (8×8), `clip.apng` of 9 frames and `mask.png` (left half white).
fn filled(name: &str) -> Result<Folder, Box<dyn std::error::Error>> {
    use kinora_media::{Clip, Format, FrameRate, Metadata, Output};
    let folder = Folder::new(name)?;
    let path = &folder.0;
    let write = |name: &str, side: u32, frames: u32, pixel: &dyn Fn(u32, u32) -> u8| -> Outcome {
        let frame = |t: u32| (0..side * side).flat_map(|at| [pixel(t, at % side), (t * 20) as u8, 90, 255]).collect();
        let clip = Clip::new(side, side, FrameRate::from_f64(12.0)?, (0..frames).map(frame).collect())?;
        Output::open(&path.join(name), Some(Format::Apng), false)?.write(&clip, &Metadata::default(), &mut |_| true)?;
        Ok(())
    };
    write("a.png", 32, 1, &|_, x| x as u8 * 8)?;
    write("b.png", 32, 1, &|_, x| 255 - x as u8 * 8)?;
    write("small.png", 8, 1, &|_, _| 200)?;
    write("clip.apng", 32, 9, &|t, x| (t * 20 + x) as u8)?;
    write("other.apng", 32, 9, &|t, x| 255 - (t * 20 + x) as u8)?;
    let half: Vec<u8> = (0..32 * 32).flat_map(|at| if at % 32 < 16 { [255; 4] } else { [0, 0, 0, 255] }).collect();
    let mask = Clip::new(32, 32, FrameRate::from_f64(12.0)?, vec![half])?;
    Output::open(&path.join("mask.png"), None, false)?.write(&mask, &Metadata::default(), &mut |_| true)?;
    Ok(folder)
}

impl Folder {
    fn generate(&self, words: &[&str]) -> std::io::Result<Output> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.args(["generate", "a fox", "-s", "7", "--executor", "cpu", "--json", "-y", "-m"]).arg(model);
        command.args(words).current_dir(&self.0).stdin(Stdio::null()).output()
    }

    /// The result of a run that must succeed, and what it said.
    fn made(&self, words: &[&str]) -> Result<(Value, String), Box<dyn std::error::Error>> {
        let output = self.generate(words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        Ok((serde_json::from_slice(&output.stdout)?, said))
    }
}

#[test]
fn every_task_makes_a_clip_of_the_right_length() -> Outcome {
    let folder = filled("tasks")?;
    // The tiny model makes 5 frames, 2 latent ones; an overlap of 1 frame is 1 latent frame.
    let clip = ["--video", "clip.apng"];
    let cases: [(&[&str], u64); 14] = [
        (&["--image", "a.png"], 5),
        (&["--last-image", "b.png"], 5),
        (&["-i", "a.png", "--last-image", "b.png", "--strength", "0.9"], 5),
        (&["--keyframe", "0=a.png", "--keyframe", "8=b.png", "--frames", "9"], 9),
        (&["--image", "a.png", "--frames", "1"], 1),
        (&["--extend", "forward", "--overlap", "1"], 9 + 4),
        (&["--extend", "backward", "--overlap", "1"], 1 + 9),
        // Nine generated, of which five are the clips' own; eight and five are outside.
        (&["--connect", "other.apng", "--overlap", "1", "--frames", "9"], 8 + 9 + 5),
        (&["--loop", "--overlap", "1", "--frames", "9"], 4 + 9),
        (&["--video", "a.png", "--mask", "mask.png"], 1),
        // Windows of 5 frames share one with the window before.
        (&["--window", "5", "--overlap", "1", "--frames", "14"], 14),
        (&["--then", "water", "--then", "fire", "--overlap", "1"], 5 + 4 + 4),
        (&["--then", "water", "--image", "a.png", "--window", "5", "--overlap", "1", "--frames", "21"], 21),
        (&["--extend", "forward", "--window", "9", "--frames", "17", "--overlap", "1"], 8 + 17),
    ];
    for (words, frames) in cases {
        let needs_clip = words[0] == "--extend" || words[0] == "--connect" || words[0] == "--loop";
        let words = [words, if needs_clip { &clip } else { &[] }, &["-o", "out.gif"]].concat();
        let (json, _) = folder.made(&words)?;
        assert_eq!(json["frames"], frames, "{words:?}");
        assert!(json["given"].is_object(), "{words:?}: {json}");
    }
    let (json, _) = folder.made(&["--video", "clip.apng", "-o", "edit.gif"])?;
    assert_eq!((&json["frames"], &json["given"]["video"]), (&5.into(), &"clip.apng".into()), "a changed clip");
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_picture_may_come_through_a_pipe() -> Outcome {
    let folder = filled("piped")?;
    let pipe = folder.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success(), "a pipe");
    // Whoever writes waits for a reader.
    let writer = std::thread::spawn({
        let picture = fs::read(folder.0.join("a.png"))?;
        move || fs::write(pipe, picture)
    });
    // A format without metadata, which would name the file.
    folder.made(&["-i", "pipe", "-o", "piped.y4m"])?;
    writer.join().map_err(|_| "it panics")??;
    folder.made(&["-i", "a.png", "-o", "file.y4m"])?;
    assert!(fs::read(folder.0.join("piped.y4m"))? == fs::read(folder.0.join("file.y4m"))?, "the same picture, the same clip");
    Ok(())
}

#[test]
fn strength_and_mask_decide_what_changes() -> Outcome {
    let folder = filled("mask")?;
    let pixels = |words: &[&str]| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        folder.made(&[words, &["--video", "clip.apng", "-o", "out.y4m"]].concat())?;
        Ok(kinora_media::Source::open(&folder.0.join("out.y4m"))?.whole()?.concat())
    };
    let kept = pixels(&["--strength", "1"])?;
    assert_eq!(kept, pixels(&["--strength", "1", "--steps", "3"])?, "a clip that is kept does not depend on the steps");
    assert_ne!(kept, pixels(&["--strength", "0.5"])?, "half of it changes");
    assert_ne!(kept, pixels(&["--mask", "mask.png"])?, "a part of it changes");
    Ok(())
}

#[test]
fn enlarging_and_rounding_are_said() -> Outcome {
    let folder = filled("notes")?;
    let (_, said) = folder.made(&["--image", "small.png", "-o", "a.gif"])?;
    assert!(said.contains("`small.png` is 8x8: enlarged 4.00 times to cover 32x32"), "{said}");
    let (_, said) = folder.made(&["--image", "a.png", "-o", "b.gif"])?;
    assert!(!said.contains("enlarged"), "{said}");
    let (json, said) = folder.made(&["--aspect", "16:9", "-o", "c.gif"])?;
    assert!(said.contains("16:9 becomes"), "{said}");
    assert!(json["width"].as_u64() >= json["height"].as_u64(), "{json}");
    Ok(())
}

#[test]
fn impossible_requests_exit_with_2_and_a_remedy() -> Outcome {
    let folder = filled("refused")?;
    fs::write(folder.0.join("empty.gif"), b"GIF89a\x06\0\x04\0\0\0\0;")?;
    fs::write(folder.0.join("text.png"), b"no image")?;
    let cases: [(&[&str], &str, &str); 13] = [
        (&["--window", "5", "--frames", "21", "--overlap", "5"], "invalid-conditioning", "overlap"),
        (&["--window", "9", "--frames", "5", "--overlap", "1"], "invalid-conditioning", "9 frames for a clip of 5"),
        (&["--then", "b", "--then", "c", "--window", "5", "--frames", "9", "--overlap", "1"], "invalid-conditioning", "3 scenes for 2"),
        (&["--video", "clip.apng", "--loop", "--overlap", "1", "--frames", "9", "--then", "b"], "invalid-conditioning", "windows"),
        (&["--image", "missing.png"], "input-failed", "missing.png"),
        (&["--image", "empty.gif"], "input-unreadable", "empty.gif"),
        (&["--image", "clip.apng"], "not-an-image", "9 frames"),
        (&["--keyframe", "5=a.png"], "invalid-conditioning", "a frame from 0 to 4"),
        (&["--keyframe", "1=a.png", "--last-image", "b.png"], "invalid-conditioning", "latent frame 1 twice"),
        (&["--video", "clip.apng", "--extend", "forward", "--overlap", "5"], "invalid-conditioning", "overlap"),
        (&["--video", "clip.apng", "--frames", "13"], "invalid-conditioning", "at least 13 frames"),
        (&["--video", "a.png", "--mask", "b.png", "--frames", "5"], "invalid-conditioning", "no painted pixel"),
        (&["--image", "a.png", "--video", "clip.apng"], "", ""),
    ];
    for (words, code, part) in cases {
        let output = folder.generate(&[words, &["-o", "out.gif"]].concat())?;
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        if !code.is_empty() {
            let error = &serde_json::from_slice::<Value>(&output.stdout)?["error"];
            assert_eq!(error["code"], code, "{words:?}: {error}");
            assert!(error["message"].as_str().is_some_and(|m| m.contains(part)) && error["hint"].is_string(), "{words:?}: {error}");
        }
        assert!(!folder.0.join("out.gif").exists(), "{words:?} left a file");
    }
    Ok(())
}
