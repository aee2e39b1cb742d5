//! Every file the command writes: checked beforehand, never lost, never over another.
#![cfg(unix)]

mod support;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use support::Folder;

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Folder {
    fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.args(["generate", "a", "--executor", "cpu", "-m"]).arg(model).args(words).current_dir(&self.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn generate(&self, words: &[&str]) -> std::io::Result<Output> {
        self.command(words).output()
    }

    fn program(&self, name: &str, script: &str) -> std::io::Result<String> {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path.display().to_string())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_cannot_be_written_is_known_before_the_first_step() -> Outcome {
    let folder = Folder::new("beforehand")?;
    fs::write(folder.0.join("plain"), "")?;
    fs::write(folder.0.join("taken.safetensors"), "precious")?;
    fs::create_dir(folder.0.join("old"))?;
    fs::write(folder.0.join("old/frame-0005.png"), "precious")?;
    let long = format!("{}.gif", "n".repeat(252));
    for (words, exit) in [
        (&["-o", "a.gif", "--fps", "60"][..], 6),
        (&["-o", &long], 6),
        (&["-o", "plain/a.gif"], 6),
        (&["-o", "a.gif", "--latents-out", "nowhere/l.safetensors"], 6),
        (&["-o", "a.gif", "--latents-out", "taken.safetensors"], 6),
        (&["-o", "a.gif", "--latents-out", "./a.gif"], 2),
        (&["-o", "a.gif", "--variations", "2", "--seed", "1", "--latents-out", "a.gif"], 2),
        (&["-o", "old/"], 6),
    ] {
        let output = folder.generate(words)?;
        assert_eq!(output.status.code(), Some(exit), "{words:?}: {}", said(&output));
        assert!(!said(&output).contains("step") && !said(&output).contains("panicked"), "{words:?}: {}", said(&output));
        assert!(said(&output).contains("hint"), "{words:?}: {}", said(&output));
    }
    assert_eq!(folder.names()?, ["old", "plain", "taken.safetensors"], "left behind");
    assert_eq!(fs::read(folder.0.join("taken.safetensors"))?, b"precious");
    Ok(())
}

#[test]
fn variations_have_their_own_latents_and_folders() -> Outcome {
    let folder = Folder::new("each")?;
    let output = folder.generate(&["--variations", "2", "-s", "7", "-o", "frames/", "--latents-out", "l.safetensors", "-q"])?;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(folder.names()?, ["frames-7", "frames-8", "l-7.safetensors", "l-8.safetensors"]);
    assert_ne!(fs::read(folder.0.join("l-7.safetensors"))?, fs::read(folder.0.join("l-8.safetensors"))?, "each its own");
    // A link stays a link, and a shorter sequence replaces a longer one.
    std::os::unix::fs::symlink("l-7.safetensors", folder.0.join("link"))?;
    let words = ["-y", "-s", "8", "-o", "frames-7/", "--frames", "1", "--latents-out", "link", "-q"];
    let output = folder.generate(&words)?;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(fs::symlink_metadata(folder.0.join("link"))?.is_symlink(), "the link was replaced");
    assert_eq!(fs::read_dir(folder.0.join("frames-7"))?.count(), 1, "frames of the longer clip are gone");
    Ok(())
}

#[test]
fn two_runs_for_one_name_never_both_have_it() -> Outcome {
    let folder = Folder::new("two")?;
    let both = |words: &[&str], steps: [&str; 2]| -> Result<Vec<i32>, Box<dyn std::error::Error>> {
        let runs = steps.map(|steps| folder.command(&[words, &["--steps", steps, "-q"]].concat()).spawn());
        let ends = runs.into_iter().map(|run| Ok(run?.wait_with_output()?.status.code().unwrap_or(-1)));
        let mut ends = ends.collect::<std::io::Result<Vec<_>>>()?;
        ends.sort_unstable();
        Ok(ends)
    };
    assert_eq!(both(&["-o", "a.gif", "--size", "64x64", "-s", "1"], ["60", "61"])?, [0, 6], "a name that was asked for");
    assert_eq!(folder.names()?, ["a-2.gif", "a.gif"], "and neither clip is lost");
    assert_eq!(both(&["-s", "5", "--size", "64x64"], ["60", "61"])?, [0, 0], "a name that was made up");
    assert_eq!(folder.names()?, ["a-2.gif", "a-5-2.mp4", "a-5.mp4", "a.gif"]);
    Ok(())
}

#[test]
fn names_that_are_no_unicode_work() -> Outcome {
    let folder = Folder::new("bytes")?;
    let made =
        folder.command(&[OsStr::new("-o"), OsStr::from_bytes(b"\xe9.png"), OsStr::new("--json"), OsStr::new("--frames=1")]).output()?;
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
    let json: serde_json::Value = serde_json::from_slice(&made.stdout)?;
    assert_eq!(json["path"], "\u{fffd}.png", "shown as what it is not");
    assert!(folder.0.join(OsStr::from_bytes(b"\xe9.png")).is_file(), "the name itself");
    let words: [&[u8]; 8] = [b"--video", b"\xe9.png", b"--strength", b"1", b"-o", b"\xe8.gif", b"--variations", b"2"];
    let made = folder.command(&words.map(OsStr::from_bytes)).arg("--seed=7").output()?;
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
    assert!(folder.0.join(OsStr::from_bytes(b"\xe8-8.gif")).is_file(), "a variation");
    assert_eq!(made.stdout, b"\xe8-7.gif\n\xe8-8.gif\n", "printed as they are, for scripts");
    let words: [&[u8]; 4] = [b"--keyframe", b"0=\xe9.png", b"-o", b"k.gif"];
    let made = folder.command(&words.map(OsStr::from_bytes)).arg("-q").output()?;
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
    Ok(())
}

#[test]
fn a_program_that_hangs_or_lies_is_found_out() -> Outcome {
    let folder = Folder::new("programs")?;
    let lists = r#"case "$*" in *-encoders*) echo libx264; exit;; esac"#;
    for (script, exit, words) in [
        ("exec sleep 600", 6, "did not answer within 4 s"),
        (&format!("{lists}\ncat >/dev/null"), 6, "does not play"),
        (&format!("{lists}\ncat >/dev/null; for last; do :; done; head -c 3000 /dev/zero >\"${{last#file:}}\""), 6, "does not play"),
        (&format!("{lists}\necho no space left >&2; exit 1"), 6, "no space left"),
        ("exit 1", 0, ""),
    ] {
        let begun = Instant::now();
        let program = folder.program("ffmpeg", script)?;
        let output = folder.command(&["-o", "a.mp4", "-y", "-q"]).env("KINORA_FFMPEG", &program).output()?;
        assert_eq!(output.status.code(), Some(exit), "{script}: {}", said(&output));
        assert!(said(&output).contains(words), "{script}: {}", said(&output));
        assert!(begun.elapsed() < Duration::from_secs(300), "{script}: {:?}", begun.elapsed());
        if exit != 0 {
            assert_eq!(folder.names()?, ["ffmpeg"], "{script} left something");
        }
    }
    Ok(())
}

#[test]
fn ctrl_c_while_a_program_encodes_is_an_interruption() -> Outcome {
    let folder = Folder::new("encoding")?;
    let script = "case \"$*\" in *-encoders*) echo libx264; exit;; esac\n: > begun\nexec sleep 600";
    let program = folder.program("slow", script)?;
    // A group of its own, so that the signal reaches it as one of a terminal does.
    let child = folder.command(&["-o", "a.mp4", "-q"]).env("KINORA_FFMPEG", &program).process_group(0).spawn()?;
    let begun = Instant::now();
    while !folder.0.join("begun").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never began to encode");
        std::thread::sleep(Duration::from_millis(10));
    }
    let asked = Instant::now();
    Command::new("kill").args(["-s", "INT", "--", &format!("-{}", child.id())]).status()?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(asked.elapsed() < Duration::from_secs(300), "it waits for the program: {:?}", asked.elapsed());
    assert_eq!(folder.names()?, ["begun", "slow"], "left behind");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_never_ends_is_gone_with_a_process_that_is_killed() -> Outcome {
    let folder = Folder::new("killed")?;
    // It neither reads nor writes, so no closed pipe tells it.
    let script = "case \"$*\" in *-encoders*) echo libx264; exit;; esac\necho $$ > number.new; mv number.new number\nwhile :; do :; done";
    let program = folder.program("spin", script)?;
    let mut child = folder.command(&["-o", "a.mp4", "-q"]).env("KINORA_FFMPEG", &program).spawn()?;
    let begun = Instant::now();
    while !folder.0.join("number").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never began to encode");
        std::thread::sleep(Duration::from_millis(10));
    }
    let number = fs::read_to_string(folder.0.join("number"))?;
    let process = Path::new("/proc").join(number.trim());
    assert!(process.exists(), "it encodes");
    child.kill()?;
    child.wait()?;
    let killed = Instant::now();
    // Nobody may have asked yet how it ended.
    while fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(killed.elapsed() < Duration::from_secs(60), "{number} still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn a_second_ctrl_c_leaves_nothing() -> Outcome {
    let folder = Folder::new("second")?;
    for delay_ms in [150, 250, 350, 450] {
        let child = folder.command(&["-o", "a.gif", "--size", "96x96", "--frames", "49", "-q"]).spawn()?;
        std::thread::sleep(Duration::from_millis(delay_ms));
        let interrupt = || Command::new("kill").args(["-s", "INT", &child.id().to_string()]).stderr(Stdio::null()).status();
        interrupt()?;
        interrupt()?;
        // Before its first line there is nobody yet who could be polite.
        let status = child.wait_with_output()?.status;
        assert_eq!(status.code().or(status.signal().map(|signal| 128 + signal)), Some(130));
        assert_eq!(folder.names()?, [""; 0], "after {delay_ms} ms");
    }
    Ok(())
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_no_end() -> Outcome {
    let folder = Folder::new("fsize")?;
    let words = ["-o", "a.gif", "--size", "96x96", "--frames", "17", "-q"];
    let whole = folder.command(&words);
    // Of the shell, in blocks of half a kilobyte.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 2; exec \"$0\" \"$@\""]).arg(whole.get_program()).args(whole.get_args()).current_dir(&folder.0);
    let output = limited.output()?;
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("error[output-failed]"), "{}", said(&output));
    assert_eq!(folder.names()?, [""; 0], "nothing is left");
    Ok(())
}

#[test]
fn model_files_that_have_no_end_are_not_opened() -> Outcome {
    let folder = Folder::new("pipes")?;
    for file in ["vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json", "vae/config.json"] {
        let model = folder.0.join("m");
        let copied =
            Command::new("cp").args(["-r", concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tiny-model")]).arg(&model).status()?;
        assert!(copied.success(), "a copy");
        fs::remove_file(model.join(file))?;
        assert!(Command::new("mkfifo").arg(model.join(file)).status()?.success(), "a pipe that nobody writes to");
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        let output = command.args(["generate", "a", "--executor", "cpu", "-q", "-m", "m"]).current_dir(&folder.0).output()?;
        assert!(output.status.code() == Some(4) && begun.elapsed() < Duration::from_secs(120), "{file}: {}", said(&output));
        fs::remove_dir_all(&model)?;
    }
    Ok(())
}

#[test]
fn programs_that_expand_prompts_have_limits() -> Outcome {
    let folder = Folder::new("limits")?;
    // Where one is to answer it has a minute, however busy the machine is; what is not to be waited for takes ten.
    for (script, seconds, exit, words) in [
        ("exec sleep 600", "1", 2, "did not answer within 1 s"),
        ("yes", "60", 2, "wrote more than"),
        ("head -c 300000 /dev/zero; cat", "60", 2, "wrote more than"),
        ("exit 3", "60", 2, "exit status: 3"),
        ("(sleep 600 &); echo a bear", "60", 0, "prompt: a bear"),
        ("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.3; done", "2", 0, "prompt: 1"),
    ] {
        let program = folder.program("expand", script)?;
        let begun = Instant::now();
        let mut command = folder.command(&["-o", "a.gif", "-y", "--expand-with", &program]);
        let output = command.env("KINORA_EXPAND_SECONDS", seconds).output()?;
        assert_eq!(output.status.code(), Some(exit), "{script}: {}", said(&output));
        assert!(said(&output).contains(words) && begun.elapsed() < Duration::from_secs(300), "{script}: {}", said(&output));
    }
    Ok(())
}
