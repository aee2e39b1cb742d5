//! MP4 with the built-in H.264 encoder: one video track, the index in front (ISO/IEC 14496-12).

use std::io::Write;

use crate::{Clip, Error, Metadata, Result, encode::KeepGoing, h264, yuv};

/// Identity transform in 16.16 and 2.30 fixed point.
const MATRIX: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];

pub(crate) fn encode(clip: &Clip, metadata: &Metadata, out: &mut dyn Write, keep_going: &mut KeepGoing<'_>) -> Result<()> {
    let mut encoder = h264::Encoder::new(clip);
    let mut samples = Vec::with_capacity(clip.frames().len());
    for (index, frame) in clip.frames().iter().enumerate() {
        if !keep_going(index) {
            return Err(Error::Interrupted);
        }
        samples.push(encoder.encode(frame));
    }
    let sizes: Vec<u32> = samples.iter().map(|sample| sample.len() as u32).collect();
    let total: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
    let head = atom(b"ftyp", &[b"isom", &0x200u32.to_be_bytes(), b"isomiso2avc1mp41"]);
    let index = |offset| movie(clip, metadata, &encoder.configuration(), &sizes, offset);
    // The index holds the place of the data, and its own length does not depend on it.
    let offset = head.len() as u64 + index(0).len() as u64 + 8;
    let (Ok(offset), Ok(length)) = (u32::try_from(offset), u32::try_from(total + 8)) else {
        return Err(Error::Limit {
            format: "mp4",
            what: "the uncompressed size",
            found: format!("{} MB", total / 1_000_000),
            limit: "4294 MB".to_owned(),
            remedy: "install ffmpeg, which compresses, or write .gif",
        });
    };
    out.write_all(&head)?;
    out.write_all(&index(offset))?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(b"mdat")?;
    for sample in &samples {
        out.write_all(sample)?;
    }
    Ok(())
}

/// The `moov` box of a file whose frames lie one after another from `offset` on.
fn movie(clip: &Clip, metadata: &Metadata, configuration: &[u8], sizes: &[u32], offset: u32) -> Vec<u8> {
    let (timescale, frame_ticks) = (u32::from(clip.frame_rate().num()), u32::from(clip.frame_rate().den()));
    let num_frames = sizes.len() as u32;
    let duration = num_frames.saturating_mul(frame_ticks);
    // No creation and modification time: the same clip gives the same file.
    let header =
        atom(b"mvhd", &[&words(&[0, 0, 0, timescale, duration, 0x0001_0000, 0, 0, 0]), &words(&MATRIX), &words(&[0, 0, 0, 0, 0, 0, 2])]);
    let (width, height) = (clip.width().next_multiple_of(2), clip.height().next_multiple_of(2));
    // Flags: enabled, in the movie.
    let track_header = words(&[3, 0, 0, 1, 0, duration, 0, 0, 0, 0]);
    let track_header = atom(b"tkhd", &[&track_header, &words(&MATRIX), &words(&[width << 16, height << 16])]);
    // Language "und", packed as three 5-bit letters.
    let media_header = atom(b"mdhd", &[&words(&[0, 0, 0, timescale, duration, 0x55c4_0000])]);
    let handler = atom(b"hdlr", &[&words(&[0, 0]), b"vide", &words(&[0, 0, 0]), b"video\0"]);
    let reference = atom(b"dref", &[&words(&[0, 1]), &atom(b"url ", &[&words(&[1])])]);
    let samples = atom(
        b"stbl",
        &[
            &atom(b"stsd", &[&words(&[0, 1]), &sample_entry(width as u16, height as u16, configuration)]),
            &atom(b"stts", &[&words(&[0, 1, num_frames, frame_ticks])]),
            &atom(b"stss", &[&words(&[0, 1, 1])]),
            &atom(b"stsc", &[&words(&[0, 1, 1, num_frames, 1])]),
            &atom(b"stsz", &[&words(&[0, 0, num_frames]), &words(sizes)]),
            &atom(b"stco", &[&words(&[0, 1, offset])]),
        ],
    );
    let video = atom(b"minf", &[&atom(b"vmhd", &[&words(&[1, 0, 0])]), &atom(b"dinf", &[&reference]), &samples]);
    let media = atom(b"mdia", &[&media_header, &handler, &video]);
    atom(b"moov", &[&header, &atom(b"trak", &[&track_header, &media]), &user_data(metadata)])
}

fn sample_entry(width: u16, height: u16, configuration: &[u8]) -> Vec<u8> {
    let mut entry = words(&[0, 1, 0, 0, 0, 0]);
    entry.extend(width.to_be_bytes());
    entry.extend(height.to_be_bytes());
    // 72 dpi twice, reserved, one frame per sample, an empty name of 32 bytes, 24 bits, no colour table.
    entry.extend(words(&[0x0048_0000, 0x0048_0000, 0]));
    entry.extend([0, 1]);
    entry.extend([0; 32]);
    entry.extend([0, 24, 0xff, 0xff]);
    let codes: Vec<u8> = yuv::COLOUR_CODES.iter().flat_map(|&code| [0, code]).collect();
    atom(b"avc1", &[&entry, &atom(b"avcC", &[configuration]), &atom(b"colr", &[b"nclx", &codes, &[0]])])
}

/// Text where players and ffmpeg look for it: the item list iTunes introduced.
fn user_data(metadata: &Metadata) -> Vec<u8> {
    let items = [(b"desc", &metadata.description), (b"\xa9too", &metadata.software), (b"\xa9cmt", &metadata.comment)];
    let item = |(kind, text): (&[u8; 4], &String)| {
        // Type 1: UTF-8.
        if text.is_empty() { Vec::new() } else { atom(kind, &[&atom(b"data", &[&words(&[1, 0]), text.as_bytes()])]) }
    };
    let list: Vec<u8> = items.into_iter().flat_map(item).collect();
    let handler = atom(b"hdlr", &[&words(&[0, 0]), b"mdirappl", &words(&[0, 0]), &[0]]);
    atom(b"udta", &[&atom(b"meta", &[&words(&[0]), &handler, &atom(b"ilst", &[&list])])])
}

/// A box: its length, its kind, its content.
fn atom(kind: &[u8; 4], content: &[&[u8]]) -> Vec<u8> {
    let length = 8 + content.iter().map(|part| part.len()).sum::<usize>();
    // Boxes hold the index only: a few bytes per frame.
    let mut bytes = (length as u32).to_be_bytes().to_vec();
    bytes.extend(kind);
    content.iter().for_each(|part| bytes.extend(*part));
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
