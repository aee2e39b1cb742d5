//! Images and clips of every format read back, and files that are no such thing.

#[path = "../../kernels/tests/support/folder.rs"]
mod folder;
#[path = "../../kernels/tests/support/random.rs"]
mod random;

use std::{fs, io::Cursor};

use folder::Folder;
use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use kinora_media::{Clip, Format, FrameRate, Metadata, Need, Output, Part, Source, encode};
use random::Random;

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

/// What 3 frames of 0.1 s each are at this rate, in their own size.
fn at_rate(source: &Source, fps: f64) -> Result<Vec<Vec<u8>>, kinora_media::Error> {
    let [width, height] = source.size().unwrap_or_default();
    let need = Need { width, height, rate: FrameRate::from_f64(fps)?, part: Part::First(100), background: [255; 3], whole: false };
    Ok(source.take(&need)?.frames)
}

/// Every byte of `found` is within `levels` of the clip's.
fn assert_same_frames(found: &Source, levels: u8, what: &str) -> Outcome {
    let clip = clip()?;
    let frames = found.whole()?;
    assert_eq!((found.size(), frames.len()), (Some([WIDTH, HEIGHT]), 3), "{what}");
    for (i, (a, b)) in frames.iter().zip(clip.frames()).enumerate() {
        assert!(a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= levels), "{what}: frame {i} is {:?}", &a[..4]);
    }
    let doubled: Vec<_> = [0, 0, 1, 1, 2, 2].map(|i: usize| frames[i].clone()).to_vec();
    assert!(at_rate(found, 20.0)? == doubled, "{what}: each frame lasts 0.1 s");
    assert_eq!((found.frames_at(FrameRate::from_f64(20.0)?, 100)?, found.frames_at(FrameRate::from_f64(20.0)?, 4)?), (6, 4), "{what}");
    Ok(())
}

#[test]
fn clips_come_back_as_they_were_written() -> Outcome {
    // Y4M loses what limited range loses.
    for (format, levels) in [(Format::Gif, 0), (Format::Apng, 0), (Format::Y4m, 2)] {
        assert_same_frames(&Source::decode(encoded(format)?)?, levels, format.name())?;
    }
    // The decoder blends frames over each other, which rounds.
    assert_same_frames(&Source::decode(animated_webp(false)?)?, 1, "webp")
}

#[test]
fn sequences_start_at_zero_or_one_and_folders_are_in_order() -> Outcome {
    let folder = Folder::new("sequence")?;
    let pattern = folder.0.join("f-%02d.png");
    Output::open(&pattern, None, false)?.write(&clip()?, &Metadata::default(), &mut |_| true)?;
    for path in [&pattern, &folder.0] {
        let read = Source::open(path)?;
        assert_eq!(read.whole()?, clip()?.frames(), "{}", path.display());
        assert_eq!(at_rate(&read, 30.0)?, clip()?.frames(), "no rate of its own");
    }
    fs::remove_file(folder.0.join("f-00.png"))?;
    assert_eq!(Source::open(&pattern)?.whole()?, &clip()?.frames()[1..], "from 1");
    RgbImage::new(9, 9).save_with_format(folder.0.join("f-03.png"), ImageFormat::Png)?;
    let error = Source::open(&pattern)?.whole().expect_err("another size");
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
    let read = Source::decode(jpeg)?;
    assert_eq!(read.size(), Some([8, 16]), "upright");
    let frames = read.whole()?;
    let [top, bottom] = [0, 15].map(|row: usize| &frames[0][row * 8 * 4..][..3]);
    assert!(top[0] > 200 && top[2] < 60 && bottom[2] > 200 && bottom[0] < 60, "red {top:?} above blue {bottom:?}");
    Ok(())
}

#[test]
fn stills_of_all_formats_are_one_frame() -> Outcome {
    let image = DynamicImage::from(RgbaImage::from_pixel(5, 3, image::Rgba([200, 100, 50, 128])));
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format)?;
        let read = Source::decode(bytes)?;
        assert_eq!((read.size(), read.whole()?.len()), (Some([5, 3]), 1), "{format:?}");
        assert_eq!(at_rate(&read, 12.0)?.len(), 1, "{format:?} stands still");
        read.check_image()?;
    }
    Ok(())
}

#[test]
fn chroma_of_y4m_is_spread_over_its_pixels() -> Outcome {
    // Grey of 4:2:0 with a header that names no range; 3 columns have 2 chroma columns.
    let mut bytes = b"YUV4MPEG2 W3 H1 F25:1 C420jpeg\nFRAME\n".to_vec();
    bytes.extend([16, 126, 235, 128, 128, 128, 128]);
    assert_eq!(Source::decode(bytes)?.whole()?[0], [0, 0, 0, 255, 128, 128, 128, 255, 255, 255, 255, 255], "black, grey, white");
    let mono = b"YUV4MPEG2 W1 H1 F25:1 Cmono XCOLORRANGE=FULL\nFRAME\n\x80".to_vec();
    assert_eq!(Source::decode(mono)?.whole()?[0], [128, 128, 128, 255], "luminance alone");
    let mut quarter = b"YUV4MPEG2 W5 H1 F25:1 C411\nFRAME\n".to_vec();
    quarter.extend([126, 126, 126, 126, 126, 90, 128, 240, 128]);
    let whole = Source::decode(quarter)?.whole()?;
    assert!(whole[0][0] == whole[0][12] && whole[0][16..] == [128, 128, 128, 255], "four pixels share their colour: {whole:?}");
    let mut deep = b"YUV4MPEG2 W1 H1 F25:1 C420p10\nFRAME\n".to_vec();
    deep.extend([126u16 << 2, 128 << 2, 128 << 2].map(u16::to_le_bytes).concat());
    assert_eq!(Source::decode(deep)?.whole()?[0], [128, 128, 128, 255], "10 bits");
    let alpha = b"YUV4MPEG2 W1 H1 F25:1 C444alpha\nFRAME\n\x7e\x80\x80\x33".to_vec();
    assert_eq!(Source::decode(alpha)?.whole()?[0], [128, 128, 128, 51], "alpha");
    let wide = b"YUV4MPEG2 W4 H4 F25:1 A2:1 Cmono\nFRAME\n0123456789abcdef".to_vec();
    assert_eq!(Source::decode(wide)?.size(), Some([8, 4]), "pixels twice as wide as high");
    Ok(())
}

#[test]
fn what_cannot_be_read_says_why() -> Outcome {
    let mut cut = encoded(Format::Gif)?;
    cut.truncate(60);
    let mut broken_png = encoded(Format::Apng)?;
    broken_png.truncate(50);
    let large = b"YUV4MPEG2 W20000 H20000 F1:1\nFRAME\n".to_vec();
    let mut jpeg = Vec::new();
    DynamicImage::from(RgbImage::new(64, 64)).write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg)?;
    let [jpeg_in_data, jpeg_at_end, jpeg_in_header] = [jpeg.len() - 20, jpeg.len() - 2, 100].map(|cut| jpeg[..cut].to_vec());
    let cases = [
        (jpeg_in_data, "input-unreadable"),
        (jpeg_at_end, "input-unreadable"),
        (jpeg_in_header, "input-unreadable"),
        (gif_canvas(16_384, 16_384), "input-too-large"),
        (b"YUV4MPEG2 W16000 H16000 F1:1\nFRAME\n".to_vec(), "input-too-large"),
        (b"".to_vec(), "unknown-input"),
        (b"no image at all".to_vec(), "unknown-input"),
        (b"GIF89a\x06\0\x04\0\0\0\0;".to_vec(), "input-unreadable"), // no frames
        (cut, "input-unreadable"),
        (broken_png, "input-unreadable"),
        (b"YUV4MPEG2 W0 H4 F1:1\n".to_vec(), "input-unreadable"),
        (b"YUV4MPEG2 W4 H4 F1:1\n".to_vec(), "input-unreadable"), // no frames
        (b"YUV4MPEG2 W4 H4 F0:1\nFRAME\n".to_vec(), "input-unreadable"),
        (b"YUV4MPEG2 W4 H4 F1:1 C420p99\nFRAME\n".to_vec(), "unknown-input"),
        (b"YUV4MPEG2 W4 H4 F1:1\nFRAME\n\x10".to_vec(), "input-unreadable"),
        (large, "input-too-large"),
    ];
    for (bytes, code) in cases {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).into_owned();
        let error = Source::decode(bytes).and_then(|source| source.whole()).expect_err("not a picture");
        assert!(error.code() == code && error.hint().is_some(), "`{start}`: {} {error}", error.code());
    }
    let missing = Source::open("no such file.png".as_ref()).expect_err("missing");
    assert!(missing.code() == "input-failed" && missing.to_string().contains("no such file.png"), "{missing}");
    Ok(())
}

/// A GIF of one pixel on a canvas of any size.
fn gif_canvas(width: u16, height: u16) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    file.extend(b"\x80\0\0\0\0\0\xff\xff\xff\x21\xf9\x04\0\x0a\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;");
    file
}

#[test]
fn a_frame_of_gif_that_is_larger_than_its_picture_is_refused() -> Outcome {
    let mut bytes = gif_canvas(4, 4);
    let at = bytes.iter().position(|byte| *byte == 0x2c).ok_or("an image descriptor")?;
    bytes[at + 5..at + 9].copy_from_slice(&[0xff; 4]);
    let source = Source::decode(bytes)?;
    assert!(matches!(source.whole(), Err(kinora_media::Error::TooLarge { .. })), "{:?}", source.whole().map(|frames| frames.len()));
    Ok(())
}

#[test]
fn a_gif_without_its_last_byte_and_with_instant_frames_plays_as_in_browsers() -> Outcome {
    let whole = encoded(Format::Gif)?;
    let cut = Source::decode(whole[..whole.len() - 1].to_vec())?;
    assert_eq!(cut.whole()?, Source::decode(whole.clone())?.whole()?, "without its trailer");
    Source::decode(whole[..whole.len() - 3].to_vec())?.whole().expect_err("without the end of its last frame");
    for (hundredths, shown) in [(0, 36), (1, 36), (2, 7), (10, 36)] {
        // Every graphic control extension holds the delay.
        let mut file = whole.clone();
        let places: Vec<_> = file.windows(3).enumerate().filter(|(_, bytes)| *bytes == b"\x21\xf9\x04").map(|(at, _)| at + 4).collect();
        assert_eq!(places.len(), 3);
        places.into_iter().for_each(|at| file[at..at + 2].copy_from_slice(&u16::to_le_bytes(hundredths)));
        assert_eq!(Source::decode(file)?.frames_at(FrameRate::from_f64(120.0)?, 1000)?, shown, "{hundredths}/100 s");
    }
    Ok(())
}

#[test]
fn frames_of_webp_that_are_to_be_cleared_are() -> Outcome {
    let frames = Source::decode(animated_webp(true)?)?.whole()?;
    // The second frame covers the left upper corner alone.
    assert_eq!((frames[1][3], &frames[1][frames[1].len() - 4..]), (255, &[0, 0, 0, 0][..]), "{:?}", frames[1]);
    Ok(())
}

#[test]
fn animated_png_of_16_bits_is_drawn_as_the_specification_says() -> Outcome {
    use png::{BitDepth, BlendOp, ColorType, DisposeOp, Encoder};
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 2, 1);
    encoder.set_color(ColorType::Rgba);
    encoder.set_depth(BitDepth::Sixteen);
    encoder.set_animated(4, 0)?;
    encoder.set_frame_delay(1, 10)?;
    let mut writer = encoder.write_header()?;
    let deep = |pixels: &[[u8; 4]]| pixels.iter().flatten().flat_map(|value| [*value, *value]).collect::<Vec<u8>>();
    let (red, blue, half) = ([255, 0, 0, 255], [0, 0, 255, 255], [0, 255, 0, 128]);
    writer.set_dispose_op(DisposeOp::None)?;
    writer.write_image_data(&deep(&[red, red]))?;
    // One pixel on the right, half transparent over red, taken away again afterwards.
    writer.set_frame_dimension(1, 1)?;
    writer.set_frame_position(1, 0)?;
    writer.set_blend_op(BlendOp::Over)?;
    writer.set_dispose_op(DisposeOp::Previous)?;
    writer.write_image_data(&deep(&[half]))?;
    // One on the left, cleared afterwards.
    writer.set_frame_position(0, 0)?;
    writer.set_blend_op(BlendOp::Source)?;
    writer.set_dispose_op(DisposeOp::Background)?;
    writer.write_image_data(&deep(&[blue]))?;
    writer.set_frame_position(1, 0)?;
    writer.write_image_data(&deep(&[half]))?;
    writer.finish()?;
    let frames = Source::decode(file)?.whole()?;
    let expected = [[red, red], [red, [127, 128, 0, 255]], [blue, red], [[0; 4], half]];
    assert_eq!(frames, expected.map(|pixels| pixels.concat()));
    Ok(())
}

#[test]
fn names_with_percent_and_numbers_without_zeros_are_read() -> Outcome {
    let folder = Folder::new("names")?;
    let image =
        |value: u8, name: &str| RgbImage::from_pixel(4, 4, image::Rgb([value; 3])).save_with_format(folder.0.join(name), ImageFormat::Png);
    (1..=12).try_for_each(|n| image(n, &format!("{n}.png")))?;
    let order: Vec<u8> = Source::open(&folder.0)?.whole()?.iter().map(|frame| frame[0]).collect();
    assert_eq!(order, (1..=12).collect::<Vec<_>>(), "2 comes before 10");
    image(99, "100%d.png")?;
    let read = Source::open(&folder.0.join("100%d.png"))?;
    assert_eq!(read.whole()?[0][0], 99, "a file that exists is no pattern");
    read.check_image()?;
    Ok(())
}

/// Runs the ffmpeg that these tests need.
fn ffmpeg(folder: &Folder, words: &str) -> Outcome {
    let program = kinora_media::find_ffmpeg()?.ok_or("these tests encode with ffmpeg: install it")?;
    let words = words.split_whitespace();
    let made = std::process::Command::new(program).args(["-v", "error", "-y"]).args(words).current_dir(&folder.0).output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn need(side: u32, part: Part) -> Result<Need, kinora_media::Error> {
    Ok(Need { width: side, height: side, rate: FrameRate::from_f64(10.0)?, part, background: [255, 255, 0], whole: false })
}

#[test]
fn ffmpeg_samples_crops_and_scales_what_is_needed() -> Outcome {
    let folder = Folder::new("ffmpeg")?;
    // A red second, then a blue one; twice as wide as high, and white beyond the middle square.
    let picture = "[0][1]concat=n=2,drawbox=w=32:color=white:t=fill,drawbox=x=96:w=32:color=white:t=fill[v]";
    let sources = "-f lavfi -i color=red:s=128x64:r=30:d=1 -f lavfi -i color=blue:s=128x64:r=30:d=1";
    ffmpeg(&folder, &format!("{sources} -filter_complex {picture} -map [v] -pix_fmt yuv444p -c:v libx264 -crf 1 a.mkv"))?;
    let clip = Source::open(&folder.0.join("a.mkv"))?;
    assert_eq!((clip.size(), clip.frames_at(FrameRate::from_f64(10.0)?, 100)?), (Some([128, 64]), 20));
    clip.check_image().expect_err("60 frames");
    let is = |frame: &Vec<u8>, rgb: [u8; 3]| frame.chunks_exact(4).all(|p| (0..3).all(|i| p[i].abs_diff(rgb[i]) < 16) && p[3] == 255);
    let (red, blue) = ([254, 0, 0], [0, 0, 254]);
    for (part, length, first, last, is_cut) in [
        (Part::First(5), 5, red, red, true),
        (Part::Last(5), 5, blue, blue, true),
        (Part::First(12), 12, red, blue, true),
        (Part::Last(12), 12, red, blue, true),
        (Part::First(100), 20, red, blue, false),
        (Part::Last(100), 20, red, blue, false),
    ] {
        let taken = clip.take(&need(16, part)?)?;
        assert_eq!((taken.frames.len(), taken.is_cut), (length, is_cut), "{part:?}");
        assert!(is(&taken.frames[0], first) && is(&taken.frames[length - 1], last), "{part:?}: {:?}", &taken.frames[0][..8]);
        assert_eq!(taken.cut_note("a.mkv", &need(16, part)?).is_some(), is_cut, "{part:?}");
    }
    Ok(())
}

#[test]
fn lists_of_other_files_are_not_opened() -> Outcome {
    let folder = Folder::new("lists")?;
    ffmpeg(&folder, "-f lavfi -i color=red:s=16x16:r=5:d=1 -c:v libx264 a.mp4")?;
    let clip = folder.0.join("a.mp4");
    Source::open(&clip)?;
    let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n", clip.display());
    for (name, text, kind) in [("list.m3u8", &playlist, "hls"), ("list.txt", &"ffconcat version 1.0\nfile a.mp4\n".to_owned(), "concat")] {
        fs::write(folder.0.join(name), text)?;
        let error = Source::open(&folder.0.join(name)).expect_err("it names another file").to_string();
        assert!(error.contains(&format!("ffmpeg takes it for `{kind}`")), "{name}: {error}");
    }
    Ok(())
}

#[test]
fn the_end_of_a_long_clip_is_sought() -> Outcome {
    let folder = Folder::new("sought")?;
    let sources = "-f lavfi -i color=red:s=16x16:r=5:d=90 -f lavfi -i color=blue:s=16x16:r=5:d=10";
    ffmpeg(&folder, &format!("{sources} -filter_complex [0][1]concat=n=2[v] -map [v] -c:v libx264 -g 50 a.mkv"))?;
    let taken = Source::open(&folder.0.join("a.mkv"))?.take(&need(16, Part::Last(120))?)?;
    assert_eq!((taken.frames.len(), taken.is_cut), (120, true));
    let blue = taken.frames.iter().filter(|frame| frame[2] > 128).count();
    assert!((99..=101).contains(&blue), "{blue} of the last 12 s are blue, expected 10 s");
    Ok(())
}

#[test]
fn alpha_and_the_shape_of_pixels_survive_ffmpeg() -> Outcome {
    let folder = Folder::new("alpha")?;
    let mut image = RgbaImage::from_pixel(64, 64, image::Rgba([0, 0, 250, 255]));
    (0..32).for_each(|x| (0..64).for_each(|y| image.put_pixel(x, y, image::Rgba([0; 4]))));
    image.save(folder.0.join("a.png"))?;
    ffmpeg(&folder, "-loop 1 -i a.png -t 1 -r 10 -c:v libvpx-vp9 -pix_fmt yuva420p -crf 4 -b:v 0 a.webm")?;
    ffmpeg(&folder, "-loop 1 -i a.png -t 1 -r 10 -c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le a.mov")?;
    ffmpeg(&folder, "-i a.png -pix_fmt rgba a.tiff")?;
    // By Pillow: a 64×64 picture like the one above, saved as AVIF; this ffmpeg reads it, but does not write its alpha channel.
    fs::write(folder.0.join("a.avif"), include_bytes!("data/transparent_half.avif"))?;
    for name in ["a.webm", "a.mov", "a.tiff", "a.avif"] {
        let source = Source::open(&folder.0.join(name))?;
        let frame = source.take(&need(32, Part::First(1))?)?.frames.remove(0);
        let [left, right] = [4, 28].map(|x: usize| [frame[(16 * 32 + x) * 4], frame[(16 * 32 + x) * 4 + 2]]);
        assert!(left[0] > 240 && left[1] < 16, "{name}: the background shows on the left: {left:?}");
        assert!(right[0] < 16 && right[1] > 235, "{name}: blue on the right: {right:?}");
    }
    Source::open(&folder.0.join("a.tiff"))?.check_image()?;
    ffmpeg(&folder, "-f lavfi -i color=gray:s=64x64:d=1:r=10 -vf setsar=2/1 -c:v libx264 b.mkv")?;
    assert_eq!(Source::open(&folder.0.join("b.mkv"))?.size(), Some([128, 64]), "pixels twice as wide as high");
    fs::write(folder.0.join("text.mkv"), "no clip")?;
    let error = Source::open(&folder.0.join("text.mkv")).expect_err("no clip");
    assert!(error.code() == "input-unreadable" && error.to_string().contains("ffmpeg says: Invalid data"), "{error}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn what_has_no_end_is_not_read_to_it() -> Outcome {
    let error = Source::open("/dev/zero".as_ref()).expect_err("no format");
    assert_eq!(error.code(), "unknown-input", "{error}");
    // A frame that lasts 136 years is read once, and shows as often as it is needed.
    let source = Source::decode(b"YUV4MPEG2 W2 H2 F1:4294967295 Cmono\nFRAME\nabcd".to_vec())?;
    for part in [Part::First(3), Part::Last(3)] {
        let taken = source.take(&need(2, part)?)?;
        assert_eq!((taken.frames.len(), taken.is_cut), (3, true), "{part:?}");
    }
    assert_eq!(source.frames_at(FrameRate::from_f64(12.0)?, 17)?, 17);
    Ok(())
}

/// A hang or a panic would fail the test; whether a damaged file still shows something is its own business.
#[test]
fn damaged_files_of_every_format_are_no_panic() -> Outcome {
    let mut jpeg = Vec::new();
    DynamicImage::from(RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 9, 77])))
        .write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg)?;
    let mut files = vec![animated_webp(false)?, animated_webp(true)?, jpeg];
    for format in [Format::Gif, Format::Apng, Format::Y4m] {
        files.push(encoded(format)?);
    }
    let mut random = Random(15);
    let mut refused = 0;
    for file in &files {
        let mut damaged: Vec<Vec<u8>> = (0..file.len()).step_by(3).map(|cut| file[..cut].to_vec()).collect();
        for _ in 0..400 {
            let mut bytes = file.clone();
            for _ in 0..=random.below(3) {
                let (at, value) = (random.below(bytes.len()), random.below(256) as u8);
                // Single bits, whole bytes, and what overflows.
                bytes[at] = [bytes[at] ^ (1 << (value % 8)), value, 0, 255][random.below(4)];
            }
            damaged.push(bytes);
        }
        for bytes in damaged {
            let read = Source::decode(bytes).and_then(|source| source.take(&need(8, Part::Last(3))?));
            refused += usize::from(read.is_err_and(|error| error.hint().is_some()));
        }
    }
    assert!(refused > 1000, "{refused} of some 3,000 damaged files are refused with a remedy");
    Ok(())
}

/// RIFF with one ANMF chunk per frame, each holding the lossless image of an ordinary file (WebP container specification).
/// If `clears`, every frame is cleared afterwards, and all but the first are only 2×2 in size.
fn animated_webp(clears: bool) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let chunk = |name: &[u8], data: &[u8]| {
        let length = (data.len() as u32).to_le_bytes();
        [name, &length, data, if data.len() % 2 == 1 { &[0] } else { &[] }].concat()
    };
    let u24 = |value: u32| value.to_le_bytes()[..3].to_vec();
    let size = [u24(WIDTH - 1), u24(HEIGHT - 1)].concat();
    let mut body = b"WEBP".to_vec();
    // Animated, and with alpha where something is cleared.
    body.extend(chunk(b"VP8X", &[&[if clears { 0x12 } else { 2 }, 0, 0, 0], size.as_slice()].concat()));
    body.extend(chunk(b"ANIM", &[0; 6]));
    for (index, frame) in clip()?.frames().iter().enumerate() {
        let mut still = Vec::new();
        let mut image = RgbaImage::from_raw(WIDTH, HEIGHT, frame.clone()).ok_or("frame size")?;
        let mut frame_size = size.clone();
        if clears && index > 0 {
            image = image::imageops::crop_imm(&image, 0, 0, 2, 2).to_image();
            frame_size = [u24(1), u24(1)].concat();
        }
        image.write_to(&mut Cursor::new(&mut still), ImageFormat::WebP)?;
        let header = [&[0; 6], frame_size.as_slice(), &u24(100), &[u8::from(clears)]].concat();
        body.extend(chunk(b"ANMF", &[header.as_slice(), &still[12..]].concat()));
    }
    Ok(chunk(b"RIFF", &body))
}
