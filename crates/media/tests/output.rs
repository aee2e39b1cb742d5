//! Files on disk: they appear whole or not at all, and nothing else is touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use kinora_media::{Clip, Error, Format, FrameRate, Metadata, Output, find_ffmpeg};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A folder of its own for one test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("kinora-media-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn names(&self) -> std::io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = entries.collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn clip(width: u32, height: u32, num_frames: usize) -> Result<Clip, Error> {
    let frame = |t: usize| (0..width * height).flat_map(|i| [(i % 251) as u8, 40 * t as u8, 128, 255]).collect();
    Clip::new(width, height, FrameRate::new(12, 1)?, (0..num_frames).map(frame).collect())
}

fn write(path: &Path, clip: &Clip) -> Result<kinora_media::Written, Error> {
    let metadata = Metadata { comment: "{\"seed\":7}".to_owned(), ..Metadata::default() };
    Output::open(path, None, false)?.write(clip, &metadata, &mut |_| true)
}

#[test]
fn each_format_leaves_exactly_its_files() -> Outcome {
    let folder = Folder::new("each")?;
    let clip = clip(18, 10, 3)?;
    for name in ["a.gif", "a.apng", "a.y4m"] {
        let written = write(&folder.0.join(name), &clip)?;
        assert_eq!(written.size_bytes, fs::metadata(&written.path)?.len(), "{name}");
    }
    write(&folder.0.join("b-%03d.png"), &clip)?;
    write(&folder.0.join("frames"), &clip).expect_err("a bare name is no folder");
    write(&folder.0.join("frames/"), &clip)?;
    let expected = ["a.apng", "a.gif", "a.y4m", "b-000.png", "b-001.png", "b-002.png", "frames"];
    assert_eq!(folder.names()?, expected, "files in the folder");
    assert_eq!(fs::read_dir(folder.0.join("frames"))?.count(), 3, "frames in the new folder");
    Ok(())
}

#[test]
fn an_existing_file_stays_unless_overwritten() -> Outcome {
    let folder = Folder::new("exists")?;
    let path = folder.0.join("a.gif");
    fs::write(&path, "precious")?;
    let refused = write(&path, &clip(4, 4, 1)?).expect_err("the file exists");
    assert_eq!(refused.code(), "output-exists", "{refused}");
    assert_eq!(fs::read(&path)?, b"precious", "content");
    Output::open(&path, None, true)?.write(&clip(4, 4, 1)?, &Metadata::default(), &mut |_| true)?;
    assert!(fs::read(&path)?.starts_with(b"GIF89a"), "overwritten on request");
    Ok(())
}

#[test]
fn a_shorter_sequence_does_not_mix_with_an_older_one() -> Outcome {
    let folder = Folder::new("mix")?;
    let pattern = folder.0.join("%d.png");
    write(&pattern, &clip(4, 4, 3)?)?;
    let shorter = Output::open(&pattern, None, true)?.write(&clip(4, 4, 2)?, &Metadata::default(), &mut |_| true);
    assert!(matches!(shorter, Err(Error::Exists { ref path }) if path.ends_with("2.png")), "{shorter:?}");
    Ok(())
}

#[test]
fn a_stopped_run_leaves_nothing() -> Outcome {
    let folder = Folder::new("stopped")?;
    let clip = clip(16, 16, 5)?;
    let mut names = vec!["a.gif", "a.apng", "a.y4m", "f-%d.png", "new/"];
    if find_ffmpeg().is_some() {
        names.push("a.mp4");
    }
    for name in names {
        for stop_at in [0, 3] {
            let output = Output::open(&folder.0.join(name), None, false)?;
            let stopped = output.write(&clip, &Metadata::default(), &mut |index| index < stop_at);
            assert!(matches!(stopped, Err(Error::Interrupted)), "{name}: {stopped:?}");
            assert_eq!(folder.names()?, [""; 0], "left by {name} stopped at {stop_at}");
        }
    }
    Ok(())
}

#[test]
fn a_panic_while_writing_leaves_nothing() -> Outcome {
    let folder = Folder::new("panic")?;
    let output = Output::open(&folder.0.join("a.gif"), None, false)?;
    let clip = clip(4, 4, 2)?;
    let write = || output.write(&clip, &Metadata::default(), &mut |index| index == 0 || panic!("on purpose"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).expect_err("the hook panics");
    assert_eq!(folder.names()?, [""; 0], "left behind");
    Ok(())
}

#[test]
fn bad_places_are_named_before_anything_runs() -> Outcome {
    let folder = Folder::new("places")?;
    fs::create_dir(folder.0.join("dir.gif"))?;
    for (name, format, code) in [
        ("missing/a.gif", None, "output-failed"),
        ("dir.gif", Some(Format::Gif), "output-failed"),
        ("a.webm", None, "unknown-format"),
        ("a", None, "unknown-format"),
        ("%x.png", None, "unknown-format"),
        ("%99d.png", None, "unknown-format"),
        ("%d-%d.png", None, "unknown-format"),
    ] {
        let error = Output::open(&folder.0.join(name), format, false).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.hint().is_some(), "{name} has no hint");
    }
    let long = Output::open(&folder.0.join(format!("{}.gif", "x".repeat(300))), None, false);
    let renamed = long.and_then(|output| output.write(&clip(1, 1, 1)?, &Metadata::default(), &mut |_| true));
    assert_eq!(renamed.expect_err("name too long").code(), "output-failed", "300 characters");
    assert_eq!(folder.names()?, ["dir.gif"], "left behind");
    Ok(())
}

#[cfg(unix)]
#[test]
fn devices_are_written_in_place_and_links_stay_links() -> Outcome {
    let written = write(Path::new("/dev/null"), &clip(4, 4, 2)?).expect_err("no extension");
    assert_eq!(written.code(), "unknown-format", "{written}");
    let output = Output::open(Path::new("/dev/null"), Some(Format::Y4m), false)?;
    assert!(output.write(&clip(4, 4, 2)?, &Metadata::default(), &mut |_| true)?.size_bytes > 96, "bytes");
    assert!(!fs::metadata("/dev/null")?.is_file(), "/dev/null is still a device");

    let folder = Folder::new("links")?;
    fs::write(folder.0.join("real.gif"), "old")?;
    std::os::unix::fs::symlink("real.gif", folder.0.join("link.gif"))?;
    Output::open(&folder.0.join("link.gif"), None, true)?.write(&clip(4, 4, 1)?, &Metadata::default(), &mut |_| true)?;
    assert!(fs::symlink_metadata(folder.0.join("link.gif"))?.is_symlink(), "the link was replaced");
    assert!(fs::read(folder.0.join("real.gif"))?.starts_with(b"GIF89a"), "its target was not written");
    Ok(())
}

/// With ffmpeg the file is decoded again; without it the error names ffmpeg and the alternatives.
#[test]
fn mp4_plays_or_says_what_is_missing() -> Outcome {
    let folder = Folder::new("mp4")?;
    let path = folder.0.join("a.mp4");
    let clip = clip(37, 21, 6)?;
    let Some(ffmpeg) = find_ffmpeg() else {
        let error = Output::open(&path, None, false).expect_err("no encoder");
        assert_eq!(error.code(), "no-encoder", "{error}");
        assert!(error.to_string().contains("ffmpeg") && error.hint().is_some_and(|hint| hint.contains(".gif")), "{error}");
        return Ok(());
    };
    let written = write(&path, &clip)?;
    assert!(written.encoder.contains("ffmpeg"), "{}", written.encoder);
    let decode = ["-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"];
    let decoded = Command::new(&ffmpeg).arg("-i").arg(&path).args(decode).output()?;
    assert!(decoded.status.success(), "{}", String::from_utf8_lossy(&decoded.stderr));
    assert_eq!(decoded.stdout.len(), 6 * 38 * 22 * 3, "six frames, sides grown to even");
    // The green level of frame t is 40·t everywhere: checks colour and order.
    for (t, frame) in decoded.stdout.chunks_exact(38 * 22 * 3).enumerate() {
        let mean = frame.iter().skip(1).step_by(3).map(|&g| f64::from(g)).sum::<f64>() / (38.0 * 22.0);
        assert!((mean - 40.0 * t as f64).abs() < 6.0, "green of frame {t} is {mean:.1}");
    }
    let probe = Command::new(&ffmpeg).arg("-hide_banner").arg("-i").arg(&path).output()?;
    let probe = String::from_utf8_lossy(&probe.stderr).into_owned();
    for expected in ["h264", "yuv420p(tv, bt709", "12 fps", "{\"seed\":7}"] {
        assert!(probe.contains(expected), "`{expected}` not in\n{probe}");
    }
    for (width, height) in [(1, 1), (2, 1), (3, 200)] {
        write(&folder.0.join(format!("{width}x{height}.mp4")), &self::clip(width, height, 1)?)?;
    }
    Ok(())
}
