//! Images and clips of every format read back, and files that are no such thing.

use std::{fs, io::Cursor, path::PathBuf};

use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use kinora_media::{Clip, Footage, Format, FrameRate, Metadata, Output, encode};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const WIDTH: u32 = 6;
const HEIGHT: u32 = 4;

/// Three frames of flat colours that every format keeps.
fn clip() -> Result<Clip, kinora_media::Error> {
    let frame = |rgb: [u8; 3]| [rgb[0], rgb[1], rgb[2], 255].repeat((WIDTH * HEIGHT) as usize);
    let frames = [[250, 10, 20], [20, 240, 30], [10, 20, 230]].map(frame).to_vec();
    Clip::new(WIDTH, HEIGHT, FrameRate::from_f64(10.0)?, frames)
}

fn encoded(format: Format) -> Result<Vec<u8>, kinora_media::Error> {
    let mut bytes = Vec::new();
    encode(&clip()?, format, &Metadata::default(), &mut bytes, &mut |_| true)?;
    Ok(bytes)
}

/// A folder of its own for one test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("kinora-read-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every byte of `found` is within `levels` of the clip's.
fn assert_same_frames(found: &Footage, levels: u8, what: &str) -> Outcome {
    let clip = clip()?;
    assert_eq!((found.width(), found.height(), found.frames().len()), (WIDTH, HEIGHT, 3), "{what}");
    for (i, (a, b)) in found.frames().iter().zip(clip.frames()).enumerate() {
        assert!(a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= levels), "{what}: frame {i} is {:?}", &a[..4]);
    }
    assert_eq!(found.at_rate(FrameRate::from_f64(20.0)?), [0, 0, 1, 1, 2, 2], "{what}: each frame lasts 0.1 s");
    Ok(())
}

#[test]
fn clips_come_back_as_they_were_written() -> Outcome {
    // Y4M loses what limited range loses.
    for (format, levels) in [(Format::Gif, 0), (Format::Apng, 0), (Format::Y4m, 2)] {
        assert_same_frames(&Footage::decode(&encoded(format)?)?, levels, format.name())?;
    }
    // The decoder blends frames over each other, which rounds.
    assert_same_frames(&Footage::decode(&animated_webp()?)?, 1, "webp")
}

#[test]
fn sequences_start_at_zero_or_one_and_folders_are_in_order() -> Outcome {
    let folder = Folder::new("sequence")?;
    let pattern = folder.0.join("f-%02d.png");
    Output::open(&pattern, None, false)?.write(&clip()?, &Metadata::default(), &mut |_| true)?;
    for path in [&pattern, &folder.0] {
        let read = Footage::open(path)?;
        assert_eq!(read.frames(), clip()?.frames(), "{}", path.display());
        assert_eq!(read.at_rate(FrameRate::from_f64(30.0)?), [0, 1, 2], "no rate of its own");
    }
    fs::remove_file(folder.0.join("f-00.png"))?;
    assert_eq!(Footage::open(&pattern)?.frames(), &clip()?.frames()[1..], "from 1");
    RgbImage::new(9, 9).save_with_format(folder.0.join("f-03.png"), ImageFormat::Png)?;
    let error = Footage::open(&pattern).expect_err("another size");
    assert!(error.to_string().contains("f-03.png") && error.to_string().contains("9x9"), "{error}");
    Ok(())
}

#[test]
fn photographs_are_turned_upright() -> Outcome {
    // Red above blue, stored lying on its side with the note that it must be turned by 90°: orientation 6.
    let stored = RgbImage::from_fn(16, 8, |x, _| image::Rgb(if x < 8 { [255, 0, 0] } else { [0, 0, 255] }));
    let mut jpeg = Vec::new();
    DynamicImage::from(stored).write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg)?;
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());
    let read = Footage::decode(&jpeg)?;
    assert_eq!((read.width(), read.height()), (8, 16), "upright");
    let [top, bottom] = [0, 15].map(|row: usize| &read.frames()[0][row * 8 * 4..][..3]);
    assert!(top[0] > 200 && top[2] < 60 && bottom[2] > 200 && bottom[0] < 60, "red {top:?} above blue {bottom:?}");
    Ok(())
}

#[test]
fn stills_of_all_formats_are_one_frame() -> Outcome {
    let image = DynamicImage::from(RgbaImage::from_pixel(5, 3, image::Rgba([200, 100, 50, 128])));
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format)?;
        let read = Footage::decode(&bytes)?;
        assert_eq!((read.width(), read.height(), read.frames().len()), (5, 3, 1), "{format:?}");
        assert_eq!(read.at_rate(FrameRate::from_f64(12.0)?), [0], "{format:?} stands still");
    }
    Ok(())
}

#[test]
fn chroma_of_y4m_is_spread_over_its_pixels() -> Outcome {
    // Grey of 4:2:0 with a header that names no range; 3 columns have 2 chroma columns.
    let mut bytes = b"YUV4MPEG2 W3 H1 F25:1 C420jpeg\nFRAME\n".to_vec();
    bytes.extend([16, 126, 235, 128, 128, 128, 128]);
    assert_eq!(Footage::decode(&bytes)?.frames()[0], [0, 0, 0, 255, 128, 128, 128, 255, 255, 255, 255, 255], "black, grey, white");
    let mono = b"YUV4MPEG2 W1 H1 F25:1 Cmono XCOLORRANGE=FULL\nFRAME\n\x80".to_vec();
    assert_eq!(Footage::decode(&mono)?.frames()[0], [128, 128, 128, 255], "luminance alone");
    Ok(())
}

#[test]
fn what_cannot_be_read_says_why() -> Outcome {
    let mut cut = encoded(Format::Gif)?;
    cut.truncate(60);
    let mut broken_png = encoded(Format::Apng)?;
    broken_png.truncate(50);
    let large = b"YUV4MPEG2 W20000 H20000 F1:1\nFRAME\n".to_vec();
    let cases: [(Vec<u8>, &str); 11] = [
        (b"".to_vec(), "unknown-input"),
        (b"no image at all".to_vec(), "unknown-input"),
        (b"GIF89a\x06\0\x04\0\0\0\0;".to_vec(), "input-unreadable"), // no frames
        (cut, "input-unreadable"),
        (broken_png, "input-unreadable"),
        (b"YUV4MPEG2 W0 H4 F1:1\n".to_vec(), "input-unreadable"),
        (b"YUV4MPEG2 W4 H4 F1:1\n".to_vec(), "input-unreadable"), // no frames
        (b"YUV4MPEG2 W4 H4 F0:1\nFRAME\n".to_vec(), "input-unreadable"),
        (b"YUV4MPEG2 W4 H4 F1:1 C420p10\nFRAME\n".to_vec(), "input-unreadable"),
        (b"YUV4MPEG2 W4 H4 F1:1\nFRAME\n\x10".to_vec(), "input-unreadable"),
        (large, "input-too-large"),
    ];
    for (bytes, code) in cases {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).into_owned();
        let error = Footage::decode(&bytes).expect_err("not a picture");
        assert!(error.code() == code && error.hint().is_some(), "`{start}`: {} {error}", error.code());
    }
    let missing = Footage::open("no such file.png".as_ref()).expect_err("missing");
    assert!(missing.code() == "input-failed" && missing.to_string().contains("no such file.png"), "{missing}");
    Ok(())
}

/// RIFF with one ANMF chunk per frame, each holding the lossless image of an ordinary file (WebP container specification).
fn animated_webp() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let chunk = |name: &[u8], data: &[u8]| {
        let length = (data.len() as u32).to_le_bytes();
        [name, &length, data, if data.len() % 2 == 1 { &[0] } else { &[] }].concat()
    };
    let u24 = |value: u32| value.to_le_bytes()[..3].to_vec();
    let size = [u24(WIDTH - 1), u24(HEIGHT - 1)].concat();
    let mut body = b"WEBP".to_vec();
    body.extend(chunk(b"VP8X", &[&[2, 0, 0, 0], size.as_slice()].concat()));
    body.extend(chunk(b"ANIM", &[0; 6]));
    for frame in clip()?.frames() {
        let mut still = Vec::new();
        let image = RgbaImage::from_raw(WIDTH, HEIGHT, frame.clone()).ok_or("frame size")?;
        image.write_to(&mut Cursor::new(&mut still), ImageFormat::WebP)?;
        let header = [&[0; 6], size.as_slice(), &u24(100), &[0]].concat();
        body.extend(chunk(b"ANMF", &[header.as_slice(), &still[12..]].concat()));
    }
    Ok(chunk(b"RIFF", &body))
}
