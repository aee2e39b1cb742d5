//! Every stream format is decoded again and compared with the frames that went in.

#[path = "../../kernels/tests/support/random.rs"]
mod random;

use std::io::Cursor;

use kinora_media::{Clip, Error, Format, FrameRate, Metadata, encode};
use random::Random;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Smooth frames with a moving bright square on a flat background.
fn clip(width: u32, height: u32, num_frames: u32, alpha: u8) -> Result<Clip, Error> {
    let frame = |t: u32| {
        let pixel = move |x: u32, y: u32| match (x / 4 == t % 4, y < height / 2) {
            (true, _) => [250, 220, 40, 255],
            (_, true) => [30, 60, 200, alpha],
            _ => [(x * 255 / width) as u8, (y * 255 / height) as u8, 90, 255],
        };
        (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
    };
    Clip::new(width, height, FrameRate::new(12, 1)?, (0..num_frames).map(frame).collect())
}

fn metadata() -> Metadata {
    Metadata {
        description: "a lantern 🏮 of paper".to_owned(),
        software: "kinora 0.0.0".to_owned(),
        comment: format!("{{\"seed\":7,\"note\":\"{}\"}}", "long ".repeat(200)),
    }
}

fn encoded(clip: &Clip, format: Format) -> Result<Vec<u8>, Error> {
    let mut file = Vec::new();
    encode(clip, format, &metadata(), &mut file, &mut |_| true)?;
    Ok(file)
}

/// RGB canvases, and how long each stays in 1/100 s.
type Played = (Vec<Vec<u8>>, Vec<u16>);

/// Composes a GIF's frames the way a player does.
fn play_gif(file: &[u8]) -> Result<Played, gif::DecodingError> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(file)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    let (mut canvas, mut canvases, mut delays) = (vec![0; width * height * 3], vec![], vec![]);
    while let Some(frame) = decoder.read_next_frame()? {
        let frame_width = usize::from(frame.width);
        for (at, pixel) in frame.buffer.chunks_exact(4).enumerate() {
            let x = usize::from(frame.left) + at % frame_width;
            let y = usize::from(frame.top) + at / frame_width;
            if pixel[3] > 0 {
                canvas[3 * (y * width + x)..][..3].copy_from_slice(&pixel[..3]);
            }
        }
        canvases.push(canvas.clone());
        delays.push(frame.delay);
    }
    Ok((canvases, delays))
}

fn rgb(frame: &[u8]) -> Vec<u8> {
    frame.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect()
}

/// Peak signal-to-noise ratio in dB.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len(), "sizes differ");
    let squares: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares).log10()
}

#[test]
fn gif_plays_the_frames_that_went_in() -> Outcome {
    for (width, height, num_frames) in [(64, 48, 9), (33, 17, 4), (1, 1, 1), (1, 9, 2)] {
        let clip = clip(width, height, num_frames, 255)?;
        let file = encoded(&clip, Format::Gif)?;
        let (canvases, delays) = play_gif(&file)?;
        assert_eq!(canvases.len(), clip.frames().len(), "frames of {width}x{height}");
        let (found, expected) = (delays.iter().sum::<u16>(), (num_frames as f64 * 100.0 / 12.0).round());
        assert_eq!(f64::from(found), expected, "playing time in 1/100 s");
        for (index, (canvas, frame)) in canvases.iter().zip(clip.frames()).enumerate() {
            let psnr = psnr(canvas, &rgb(frame));
            assert!(psnr > 34.0, "{width}x{height} frame {index}: {psnr:.1} dB");
        }
        let comment = metadata().comment;
        // Sub-blocks of 255 bytes split the comment; its beginning is contiguous.
        assert!(file.windows(200).any(|window| window == &comment.as_bytes()[..200]), "comment is missing");
    }
    Ok(())
}

#[test]
fn gif_holds_noisy_backgrounds_still() -> Outcome {
    // ±2 levels of noise around one colour, as a decoder leaves on a flat background; 9 frames.
    let mut random = Random(1);
    let mut noise = || random.below(3) as u8;
    let frames = (0..9).map(|_| (0..40 * 40).flat_map(|_| [40 + noise(), 90 + noise(), 160 + noise(), 255]).collect());
    let clip = Clip::new(40, 40, FrameRate::new(12, 1)?, frames.collect())?;
    let (canvases, _) = play_gif(&encoded(&clip, Format::Gif)?)?;
    for (index, canvas) in canvases.iter().enumerate() {
        assert!(*canvas == canvases[0], "frame {index} flickers");
    }
    Ok(())
}

#[test]
fn apng_is_lossless_with_and_without_alpha() -> Outcome {
    for (alpha, width, height, num_frames) in [(255, 31, 18, 5), (128, 31, 18, 5), (255, 1, 1, 1)] {
        let clip = clip(width, height, num_frames, alpha)?;
        let file = encoded(&clip, Format::Apng)?;
        let mut reader = png::Decoder::new(Cursor::new(&file)).read_info()?;
        let animation = reader.info().animation_control.ok_or("no animation")?;
        assert_eq!((animation.num_frames, animation.num_plays), (num_frames, 0), "frames and plays");
        let text: Vec<_> = reader.info().utf8_text.iter().map(|chunk| chunk.get_text()).collect::<Result<_, _>>()?;
        assert_eq!(text, [metadata().description, metadata().software, metadata().comment], "metadata");
        for frame in clip.frames() {
            let mut buffer = vec![0; reader.output_buffer_size().ok_or("frame too large")?];
            reader.next_frame(&mut buffer)?;
            let expected = if clip.is_opaque() { rgb(frame) } else { frame.clone() };
            assert!(buffer == expected, "pixels changed");
            let control = reader.info().frame_control.ok_or("no frame control")?;
            assert_eq!((control.delay_num, control.delay_den), (1, 12), "delay");
        }
    }
    Ok(())
}

#[test]
fn y4m_has_one_header_and_three_planes_per_frame() -> Outcome {
    let clip = clip(5, 3, 2, 255)?;
    let file = encoded(&clip, Format::Y4m)?;
    let header = b"YUV4MPEG2 W5 H3 F12:1 Ip A1:1 C444 XCOLORRANGE=LIMITED\n";
    assert!(file.starts_with(header), "header: {}", String::from_utf8_lossy(&file[..60]));
    assert_eq!(file.len(), header.len() + 2 * (b"FRAME\n".len() + 3 * 15), "size in bytes");
    let luma_of_square = file[header.len() + 6];
    assert_eq!(luma_of_square, 195, "BT.601 luma of (250, 220, 40)");
    Ok(())
}

#[test]
fn formats_name_what_they_cannot_hold() -> Outcome {
    let fast = Clip::new(1, 1, FrameRate::from_f64(60.0)?, vec![vec![0; 4]])?;
    let error = encoded(&fast, Format::Gif).expect_err("60 frames/s");
    assert_eq!(error.code(), "format-limit", "{error}");
    assert!(error.to_string().contains("frame rate is 60, the limit is 50"), "{error}");
    let slow = Clip::new(1, 1, FrameRate::new(1, 60_000)?, vec![vec![0; 4]])?;
    assert_eq!(encoded(&slow, Format::Gif).expect_err("hours per frame").code(), "format-limit", "slow gif");
    assert_eq!(encoded(&fast, Format::PngSequence).expect_err("needs files").code(), "needs-file", "PNG sequence");
    Ok(())
}

#[test]
fn stopping_and_failing_writers_are_errors() -> Outcome {
    let clip = clip(16, 16, 4, 255)?;
    for format in [Format::Gif, Format::Apng, Format::Y4m, Format::Mp4] {
        let stopped = encode(&clip, format, &metadata(), &mut Vec::new(), &mut |index| index < 2);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{}: {stopped:?}", format.name());
        let mut full = [0; 100];
        let failed = encode(&clip, format, &metadata(), &mut full.as_mut_slice(), &mut |_| true);
        assert!(matches!(failed, Err(Error::Write(_))), "{}: {failed:?}", format.name());
    }
    Ok(())
}
