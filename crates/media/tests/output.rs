//! Files on disk: they appear whole or not at all, and nothing else is touched.

#[path = "../../kernels/tests/support/folder.rs"]
mod folder;
#[path = "../../kernels/tests/support/random.rs"]
mod random;

use std::{fs, path::Path, process::Command};

use folder::Folder;
use kinora_media::{Clip, Error, Format, FrameRate, Head, Metadata, Output, Place, encode, find_ffmpeg};
use random::Random;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn clip(width: u32, height: u32, num_frames: usize) -> Result<Clip, Error> {
    let frame = |t: usize| (0..width * height).flat_map(|i| [60 + (i % 4) as u8, 40 * t as u8, 128, 255]).collect();
    Clip::new(width, height, FrameRate::new(12, 1)?, (0..num_frames).map(frame).collect())
}

fn head(width: u32, fps: f64, frames: Option<usize>) -> Result<Head, Error> {
    Ok(Head { width, height: 4, frame_rate: FrameRate::from_f64(fps)?, frames, is_opaque: true })
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
    fs::remove_file(folder.0.join("0.png"))?;
    fs::remove_file(folder.0.join("1.png"))?;
    let [shorter, replacing] = [false, true].map(|overwrite| Output::open(&pattern, None, overwrite));
    let known = shorter?.check(&head(4, 12.0, Some(2))?);
    assert!(matches!(known, Err(Error::Exists { ref path, .. }) if path.ends_with("2.png")), "{known:?}");
    let replacing = replacing?;
    replacing.check(&head(4, 12.0, Some(2))?)?;
    replacing.write(&clip(4, 4, 2)?, &Metadata::default(), &mut |_| true)?;
    assert_eq!(folder.names()?, ["0.png", "1.png"], "the whole sequence was replaced");
    Ok(())
}

#[test]
fn what_a_format_cannot_hold_is_known_before_there_are_frames() -> Outcome {
    let folder = Folder::new("known")?;
    let check = |name: &str, head: Head| Output::open(&folder.0.join(name), None, false)?.check(&head);
    for (name, width, fps, frames, expected) in [
        ("a.gif", 8, 50.0, Some(5), Ok(())),
        ("a.gif", 8, 60.0, Some(5), Err("format-limit")),
        ("a.gif", 65_535, 12.0, None, Ok(())),
        ("a.gif", 70_000, 12.0, Some(5), Err("bad-clip")),
        ("a.apng", 8, 60.0, Some(5), Ok(())),
        ("a.apng", 8, 60.0, None, Err("format-limit")),
        ("f-%d.png", 8, 60.0, None, Ok(())),
    ] {
        let known = check(name, head(width, fps, frames)?).map_err(|error| error.code());
        assert_eq!(known, expected, "{name} {width} {fps} {frames:?}");
    }
    Ok(())
}

#[test]
fn one_file_has_many_spellings() -> Outcome {
    let folder = Folder::new("claims")?;
    fs::create_dir(folder.0.join("real"))?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("real", folder.0.join("link"))?;
    let claim = |name: &str| Ok::<_, Error>(Output::open(&folder.0.join(name), None, false)?.claim());
    let mut cases = vec![
        ("a.gif", "./a.gif", true),
        ("a.gif", "real/../a.gif", true),
        ("a.gif", "b.gif", false),
        ("new/", "new/frame-%04d.png", true),
        ("new/", "new/frame-%d.png", true),
        ("new/", "new/other-%04d.png", false),
        ("f-%d.png", "f-12.png", true),
        ("f-%d.png", "f-x.png", false),
        ("f-%d.png", "real/f-12.png", false),
    ];
    if cfg!(unix) {
        cases.extend([("real/a.gif", "link/a.gif", true), ("real/", "link/frame-%04d.png", true)]);
    }
    for (a, b, expected) in cases {
        assert_eq!(claim(a)?.collides(&claim(b)?), expected, "{a} and {b}");
    }
    let latents = Place::open(&folder.0.join("./a.gif"), false)?.claim();
    assert!(claim("a.gif")?.collides(&latents), "files of all kinds are compared");
    let [a, b] = [Place::open("-".as_ref(), false)?, Place::open("-".as_ref(), false)?];
    assert!(a.claim().collides(&b.claim()), "standard output takes one");
    Ok(())
}

#[test]
fn a_name_that_is_taken_meanwhile_stays_taken_and_the_clip_is_kept() -> Outcome {
    let folder = Folder::new("race")?;
    for (name, kept, new) in [("a.gif", "a-2.gif", "a-2.gif"), ("a.mp4", "a-2.mp4", "a-2.mp4"), ("f/", "f-2", "f-2/frame-0001.png")] {
        let path = folder.0.join(name);
        let output = Output::open(&path, None, false)?;
        let taken = if name == "f/" { path.join("frame-0001.png") } else { path };
        let mut take = |index: usize| {
            if index == 1 {
                fs::write(&taken, "precious").unwrap_or_else(|error| panic!("{error}"));
            }
            true
        };
        let error = output.write(&clip(4, 4, 2)?, &Metadata::default(), &mut take).expect_err(name);
        let Error::Exists { kept: Some(found), .. } = &error else { panic!("{name}: {error}") };
        assert!(found.ends_with(kept) && error.hint().is_some(), "{name}: {error}");
        assert_eq!(fs::read(&taken)?, b"precious", "{name}");
        assert!(fs::metadata(folder.0.join(new))?.len() > 50, "{name}");
    }
    fs::remove_file(folder.0.join("a.gif"))?;
    let numbered = Output::open(&folder.0.join("a.gif"), None, false)?.numbered();
    fs::write(folder.0.join("a.gif"), "precious")?;
    let written = numbered.write(&clip(4, 4, 2)?, &Metadata::default(), &mut |_| true)?;
    assert!(written.path.ends_with("a-3.gif"), "the next free name: {written:?}");
    assert_eq!(folder.names()?, ["a-2.gif", "a-2.mp4", "a-3.gif", "a.gif", "a.mp4", "f", "f-2"], "and nothing else");
    assert_eq!(fs::read_dir(folder.0.join("f"))?.count(), 1, "no frame of the clip that lost");
    Ok(())
}

#[cfg(unix)]
#[test]
fn what_killed_processes_left_is_removed_by_the_next_one() -> Outcome {
    let folder = Folder::new("abandoned")?;
    let file = |name: &str| fs::File::create(folder.0.join(name));
    let in_use = file(".kinora-1-1.partial")?;
    in_use.lock()?;
    for name in [".kinora-1-0.partial", ".kinora-99999999-7.partial", ".kinora-notes.partial", ".kinora-1-x.partial", "a.partial"] {
        file(name)?;
    }
    Output::open(&folder.0.join("a.gif"), None, false)?;
    assert_eq!(folder.names()?, [".kinora-1-1.partial", ".kinora-1-x.partial", ".kinora-notes.partial", "a.partial"], "ours, not in use");
    drop(in_use);
    Output::open(&folder.0.join("frames/"), None, false)?;
    Output::open(&folder.0.join("%d.png"), None, false)?;
    assert_eq!(folder.names()?, [".kinora-1-x.partial", ".kinora-notes.partial", "a.partial"], "once its process has ended");
    Ok(())
}

#[cfg(unix)]
#[test]
fn names_that_are_no_unicode_work() -> Outcome {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let folder = Folder::new("bytes")?;
    let names: [(&[u8], &[u8]); 4] =
        [(b"\xe9.gif", b"\xe9.gif"), (b"\xe9.mp4", b"\xe9.mp4"), (b"\xe9-%02d.png", b"\xe9-01.png"), (b"\xff/", b"\xff/frame-0001.png")];
    for (name, first) in names {
        let path = folder.0.join(OsStr::from_bytes(name));
        let written = write(&path, &clip(4, 4, 2)?)?;
        assert!(folder.0.join(OsStr::from_bytes(first)).is_file(), "{}: {written:?}", path.display());
    }
    Ok(())
}

#[test]
fn a_stopped_run_leaves_nothing() -> Outcome {
    let folder = Folder::new("stopped")?;
    let clip = clip(16, 16, 5)?;
    for name in ["a.gif", "a.apng", "a.y4m", "a.mp4", "f-%d.png", "new/"] {
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
fn frames_are_written_while_they_are_made() -> Outcome {
    let folder = Folder::new("stream")?;
    let clip = clip(16, 8, 5)?;
    let metadata = Metadata { comment: "{\"seed\":7}".to_owned(), ..Metadata::default() };
    for name in ["a.gif", "a.apng", "a.y4m", "a.mp4", "f-%d.png"] {
        let [whole, streamed] = ["whole", "streamed"].map(|part| folder.0.join(part).join(name));
        for path in [&whole, &streamed] {
            fs::create_dir(path.parent().ok_or("a folder")?)?;
        }
        Output::open(&whole, None, false)?.write(&clip, &metadata, &mut |_| true)?;
        let mut writing = Output::open(&streamed, None, false)?.begin(clip.head(), &metadata)?;
        clip.frames().iter().try_for_each(|frame| writing.frame(frame, &mut |_| true))?;
        assert!(writing.frame(&[0; 8], &mut |_| true).is_err_and(|error| error.code() == "bad-clip"), "{name}: a frame of two pixels");
        let size_bytes = writing.finish(&mut |_| true)?.size_bytes;
        for entry in fs::read_dir(folder.0.join("whole"))? {
            let entry = entry?;
            assert!(fs::read(entry.path())? == fs::read(streamed.with_file_name(entry.file_name()))?, "{:?}", entry.file_name());
        }
        let sizes = fs::read_dir(folder.0.join("streamed"))?.map(|entry| Ok(entry?.metadata()?.len()));
        assert_eq!(sizes.sum::<std::io::Result<u64>>()?, size_bytes, "{name}: all of it and nothing else");
        for part in ["whole", "streamed"] {
            fs::remove_dir_all(folder.0.join(part))?;
        }
    }
    Ok(())
}

#[test]
fn a_clip_that_is_given_up_leaves_nothing_but_frames_without_an_end() -> Outcome {
    let folder = Folder::new("given-up")?;
    let clip = clip(16, 8, 2)?;
    for (name, frames, left) in [
        ("a.gif", None, 0),
        ("a.y4m", None, 0),
        ("a.mp4", None, 0),
        ("a.apng", Some(3), 0),
        ("f-%d.png", Some(3), 0),
        ("f-%d.png", None, 2),
    ] {
        let output = Output::open(&folder.0.join(name), None, false)?;
        let mut writing = output.begin(Head { frames, ..clip.head() }, &Metadata::default())?;
        clip.frames().iter().try_for_each(|frame| writing.frame(frame, &mut |_| true))?;
        assert_eq!(writing.count(), 2);
        drop(writing);
        assert_eq!(folder.names()?.len(), left, "{name} of {frames:?} frames");
    }
    let none = Output::open(&folder.0.join("a.y4m"), None, false)?.begin(clip.head(), &Metadata::default())?;
    assert!(matches!(none.finish(&mut |_| true), Err(Error::NoFrames)), "a clip has frames");
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
    for long in [format!("{}.gif", "x".repeat(252)), format!("{}%d.png", "x".repeat(250))] {
        let output = Output::open(&folder.0.join(&long), None, false);
        // Ten frames need one digit, the eleventh two.
        let known = output.and_then(|output| output.check(&head(4, 12.0, Some(11))?));
        assert_eq!(known.expect_err("name too long").code(), "output-failed", "{long}");
    }
    fs::write(folder.0.join("plain"), "")?;
    for (name, format) in [("plain/a.gif", None), ("plain/new/", None), ("plain/f-%d.png", None)] {
        let error = Output::open(&folder.0.join(name), format, false).expect_err(name);
        assert_eq!(error.code(), "output-failed", "{name}: {error}");
    }
    fs::remove_file(folder.0.join("plain"))?;
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

/// Frames of an MP4 file as ffmpeg decodes them, RGB, and what it says about the file.
fn decode_mp4(path: &Path) -> Result<(Vec<u8>, String), Box<dyn std::error::Error>> {
    let ffmpeg = find_ffmpeg()?.ok_or("these tests decode with ffmpeg: install it")?;
    let decode = ["-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-sws_flags", "accurate_rnd+full_chroma_int", "-"];
    let decoded = Command::new(&ffmpeg).arg("-i").arg(path).args(decode).output()?;
    let complaints = String::from_utf8_lossy(&decoded.stderr);
    assert!(decoded.status.success() && complaints.is_empty(), "{complaints}");
    let probe = Command::new(&ffmpeg).arg("-hide_banner").arg("-i").arg(path).output()?;
    Ok((decoded.stdout, String::from_utf8_lossy(&probe.stderr).into_owned()))
}

/// The green level of frame t of [`clip`] is 40·t everywhere: checks colour and order.
fn check_frames(rgb: &[u8], width: usize, height: usize) {
    for (t, frame) in rgb.chunks_exact(width * height * 3).enumerate() {
        let mean = frame.iter().skip(1).step_by(3).map(|&g| f64::from(g)).sum::<f64>() / (width * height) as f64;
        assert!((mean - 40.0 * t as f64).abs() < 6.0, "green of frame {t} is {mean:.1}");
    }
}

#[test]
fn mp4_through_ffmpeg_plays() -> Outcome {
    let folder = Folder::new("mp4")?;
    let path = folder.0.join("a.mp4");
    let written = write(&path, &clip(37, 21, 6)?)?;
    assert!(written.encoder.contains("ffmpeg"), "{}", written.encoder);
    let (rgb, probe) = decode_mp4(&path)?;
    assert_eq!(rgb.len(), 6 * 38 * 22 * 3, "six frames, sides grown to even");
    check_frames(&rgb, 38, 22);
    for expected in ["h264", "yuv420p(tv, bt709", "12 fps", "{\"seed\":7}"] {
        assert!(probe.contains(expected), "`{expected}` not in\n{probe}");
    }
    for (width, height) in [(1, 1), (2, 1), (3, 200)] {
        write(&folder.0.join(format!("{width}x{height}.mp4")), &clip(width, height, 1)?)?;
    }
    Ok(())
}

#[test]
fn long_text_comes_back_whole_from_mp4() -> Outcome {
    let folder = Folder::new("text")?;
    // A colon makes a protocol of what is before it, a dash an option.
    fs::create_dir(folder.0.join("12:30 -x"))?;
    let path = folder.0.join("12:30 -x/-a.mp4");
    let comment = format!("{{\"prompt\":\"{}\",\"seed\":7}}", "a = b; # \\ é 🏮 ".repeat(3000));
    let metadata = Metadata { description: "two\nlines".to_owned(), comment: comment.clone(), ..Metadata::default() };
    Output::open(&path, None, false)?.write(&clip(16, 16, 2)?, &metadata, &mut |_| true)?;
    let file = fs::read(&path)?;
    for text in [comment.as_str(), "two\nlines"] {
        assert!(file.windows(text.len()).any(|window| window == text.as_bytes()), "{} bytes of text are missing", text.len());
    }
    assert_eq!(fs::read_dir(folder.0.join("12:30 -x"))?.count(), 1, "no text is left beside the clip");
    Ok(())
}

#[test]
fn mp4_of_the_built_in_encoder_plays() -> Outcome {
    let folder = Folder::new("builtin")?;
    for (width, height, num_frames) in [(1, 1, 1), (16, 16, 2), (37, 21, 6), (64, 80, 6), (130, 2, 3)] {
        let clip = clip(width, height, num_frames)?;
        let metadata = Metadata { comment: "{\"seed\":7}".to_owned(), ..Metadata::default() };
        let mut file = Vec::new();
        encode(&clip, Format::Mp4, &metadata, &mut file, &mut |_| true)?;
        let path = folder.0.join(format!("{width}x{height}.mp4"));
        fs::write(&path, &file)?;
        let (rgb, probe) = decode_mp4(&path)?;
        let (width, height) = (width.next_multiple_of(2) as usize, height.next_multiple_of(2) as usize);
        assert_eq!(rgb.len(), num_frames * width * height * 3, "{width}x{height}: frames\n{probe}");
        check_frames(&rgb, width, height);
        for expected in ["h264", "yuv420p(tv, bt709/bt709/iec61966-2-1", "12 fps", "{\"seed\":7}"] {
            assert!(probe.contains(expected), "`{expected}` not in\n{probe}");
        }
    }
    Ok(())
}

#[test]
#[cfg(feature = "av1")]
fn av1_of_the_built_in_encoder_plays() -> Outcome {
    let folder = Folder::new("av1")?;
    let path = folder.0.join("a.mp4");
    let mut file = Vec::new();
    encode(&clip(351, 199, 3)?, Format::Mp4, &Metadata::default(), &mut file, &mut |_| true)?;
    fs::write(&path, &file)?;
    let (rgb, probe) = decode_mp4(&path)?;
    assert_eq!(rgb.len(), 3 * 352 * 200 * 3, "three frames, sides grown to even\n{probe}");
    check_frames(&rgb, 352, 200);
    for expected in ["av1", "yuv420p(tv, bt709", "12 fps"] {
        assert!(probe.contains(expected), "`{expected}` not in\n{probe}");
    }
    Ok(())
}

#[test]
fn still_areas_cost_nothing_in_the_built_in_mp4() -> Outcome {
    // Half of the picture never changes, the other half is noise; near the border they share chroma.
    let mut random = Random(1);
    let mut noise = || random.next() as u8;
    let frame = |_| (0..64 * 64).flat_map(|i| if i % 64 < 32 { [200, 100, 50, 255] } else { [noise(), noise(), noise(), 255] }).collect();
    let frames: Vec<Vec<u8>> = (0..9).map(frame).collect();
    let clip = Clip::new(64, 64, FrameRate::new(24_000, 1001)?, frames)?;
    let mut file = Vec::new();
    encode(&clip, Format::Mp4, &Metadata::default(), &mut file, &mut |_| true)?;
    let raw = 64 * 64 * 3 / 2;
    assert!((raw + 4 * raw..raw + 5 * raw).contains(&file.len()), "one whole frame and eight halves, found {} bytes", file.len());
    let folder = Folder::new("still")?;
    fs::write(folder.0.join("a.mp4"), &file)?;
    let (rgb, probe) = decode_mp4(&folder.0.join("a.mp4"))?;
    assert!(probe.contains("23.98 fps"), "{probe}");
    let last = &rgb[8 * 64 * 64 * 3..];
    for (at, (pixel, expected)) in last.chunks_exact(3).zip(clip.frames()[8].chunks_exact(4)).enumerate().filter(|(at, _)| at % 64 < 24) {
        assert!(pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 3), "pixel {at} of the last frame: {pixel:?}, {expected:?}");
    }
    Ok(())
}
