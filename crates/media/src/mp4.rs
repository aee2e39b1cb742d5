//! MP4 with the built-in encoders: one video track, the index in front (ISO/IEC 14496-12).

use std::io::{self, Read, Seek, SeekFrom, Write as _};

#[cfg(feature = "av1")]
use crate::av1;
use crate::{
    Error, FrameRate, Head, KeepGoing, Metadata, Result,
    encode::{Encoder, Out, Spool},
    h264, yuv,
};

/// More than the index of any clip here.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Identity transform in 16.16 and 2.30 fixed point.
const MATRIX: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];

/// A coded frame.
pub(crate) struct Sample {
    pub(crate) data: Vec<u8>,
    /// Whether it needs no other.
    pub(crate) is_key: bool,
}

/// What codes the frames.
enum Track {
    H264(Box<h264::Encoder>),
    #[cfg(feature = "av1")]
    Av1(Box<av1::Encoder>),
}

impl Track {
    fn new(head: &Head) -> Result<Self> {
        #[cfg(feature = "av1")]
        if av1::Encoder::takes(head) {
            return Ok(Self::Av1(Box::new(av1::Encoder::new(head)?)));
        }
        Ok(Self::H264(Box::new(h264::Encoder::new(head))))
    }

    fn encode(&mut self, rgba: &[u8], is_first: bool) -> Result<Vec<Sample>> {
        match self {
            Self::H264(encoder) => Ok(vec![Sample { data: encoder.encode(rgba), is_key: is_first }]),
            #[cfg(feature = "av1")]
            Self::Av1(encoder) => encoder.encode(rgba),
        }
    }

    fn finish(&mut self) -> Result<Vec<Sample>> {
        match self {
            Self::H264(_) => Ok(Vec::new()),
            #[cfg(feature = "av1")]
            Self::Av1(encoder) => encoder.finish(),
        }
    }

    /// Kinds of the sample entry and of the box in it, and the content of that.
    fn configuration(&self) -> (&'static [u8; 4], &'static [u8; 4], Vec<u8>) {
        match self {
            Self::H264(encoder) => (b"avc1", b"avcC", encoder.configuration()),
            #[cfg(feature = "av1")]
            Self::Av1(encoder) => (b"av01", b"av1C", encoder.configuration()),
        }
    }
}

/// Frames wait in the spool until the index in front of them is known.
pub(crate) struct Mp4<'a> {
    head: Head,
    metadata: Metadata,
    out: Out<'a>,
    waiting: Spool,
    track: Track,
    sizes: Vec<u32>,
    /// Frames that need no others, counted from 1.
    keys: Vec<u32>,
    total: u64,
}

impl<'a> Mp4<'a> {
    pub(crate) fn new(head: &Head, metadata: &Metadata, out: Out<'a>, waiting: Spool) -> Result<Self> {
        let (track, metadata) = (Track::new(head)?, metadata.clone());
        Ok(Self { head: *head, metadata, out, waiting, track, sizes: Vec::new(), keys: Vec::new(), total: 0 })
    }

    fn keep(&mut self, samples: Vec<Sample>) -> Result<()> {
        for Sample { data, is_key } in samples {
            self.sizes.push(data.len() as u32);
            self.keys.extend(is_key.then_some(self.sizes.len() as u32));
            self.total += data.len() as u64;
            self.offset(self.total)?;
            self.waiting.write_all(&data)?;
        }
        Ok(())
    }

    /// The place of a frame as the index holds it.
    fn offset(&self, at: u64) -> Result<u32> {
        u32::try_from(at).map_err(|_| Error::Limit {
            format: "mp4",
            what: "the size",
            found: format!("{} MB", self.total / 1_000_000),
            limit: "4294 MB".to_owned(),
            remedy: "install ffmpeg, which compresses more, or write .gif",
        })
    }
}

impl Encoder for Mp4<'_> {
    fn frame(&mut self, rgba: &[u8]) -> Result<()> {
        let samples = self.track.encode(rgba, self.sizes.is_empty())?;
        self.keep(samples)
    }

    fn finish(mut self: Box<Self>, _: &mut KeepGoing<'_>) -> Result<()> {
        let rest = self.track.finish()?;
        self.keep(rest)?;
        let (kind, inner, configuration) = self.track.configuration();
        let head = atom(b"ftyp", &[b"isom", &0x200u32.to_be_bytes(), b"isomiso2", kind, b"mp41"]);
        let entry = Entry { kind, inner, configuration: &configuration };
        let index = |offset| movie(&self.head, &self.metadata, &entry, (&self.sizes, &self.keys), offset);
        // The index holds the place of the data, and its own length does not depend on it.
        let offset = self.offset(head.len() as u64 + index(0).len() as u64 + 8)?;
        let (length, index) = (self.offset(self.total + 8)?, index(offset));
        self.out.write_all(&head)?;
        self.out.write_all(&index)?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(b"mdat")?;
        self.waiting.rewind()?;
        io::copy(&mut self.waiting, &mut self.out)?;
        Ok(self.out.flush()?)
    }
}

/// How the frames are coded.
struct Entry<'a> {
    kind: &'a [u8; 4],
    inner: &'a [u8; 4],
    configuration: &'a [u8],
}

/// The `moov` box of a file whose frames, of these sizes and with these keys, lie one after another from `offset` on.
fn movie(head: &Head, metadata: &Metadata, entry: &Entry<'_>, (sizes, keys): (&[u32], &[u32]), offset: u32) -> Vec<u8> {
    let (timescale, frame_ticks) = (u32::from(head.frame_rate.num()), u32::from(head.frame_rate.den()));
    let num_frames = sizes.len() as u32;
    let duration = num_frames.saturating_mul(frame_ticks);
    // No creation and modification time: the same clip gives the same file.
    let header =
        atom(b"mvhd", &[&words(&[0, 0, 0, timescale, duration, 0x0001_0000, 0, 0, 0]), &words(&MATRIX), &words(&[0, 0, 0, 0, 0, 0, 2])]);
    let (width, height) = (head.width.next_multiple_of(2), head.height.next_multiple_of(2));
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
            &atom(b"stsd", &[&words(&[0, 1]), &sample_entry(width as u16, height as u16, entry)]),
            &atom(b"stts", &[&words(&[0, 1, num_frames, frame_ticks])]),
            &atom(b"stss", &[&words(&[0, keys.len() as u32]), &words(keys)]),
            &atom(b"stsc", &[&words(&[0, 1, 1, num_frames, 1])]),
            &atom(b"stsz", &[&words(&[0, 0, num_frames]), &words(sizes)]),
            &atom(b"stco", &[&words(&[0, 1, offset])]),
        ],
    );
    let video = atom(b"minf", &[&atom(b"vmhd", &[&words(&[1, 0, 0])]), &atom(b"dinf", &[&reference]), &samples]);
    let media = atom(b"mdia", &[&media_header, &handler, &video]);
    atom(b"moov", &[&header, &atom(b"trak", &[&track_header, &media]), &user_data(metadata)])
}

fn sample_entry(width: u16, height: u16, coded: &Entry<'_>) -> Vec<u8> {
    let mut entry = words(&[0, 1, 0, 0, 0, 0]);
    entry.extend(width.to_be_bytes());
    entry.extend(height.to_be_bytes());
    // 72 dpi twice, reserved, one frame per sample, an empty name of 32 bytes, 24 bits, no colour table.
    entry.extend(words(&[0x0048_0000, 0x0048_0000, 0]));
    entry.extend([0, 1]);
    entry.extend([0; 32]);
    entry.extend([0, 24, 0xff, 0xff]);
    let codes: Vec<u8> = yuv::COLOUR_CODES.iter().flat_map(|&code| [0, code]).collect();
    atom(coded.kind, &[&entry, &atom(coded.inner, &[coded.configuration]), &atom(b"colr", &[b"nclx", &codes, &[0]])])
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

/// Whether a file is whole and plays: its boxes fill it exactly, and its index knows `frames` frames that last as long as they
/// should and lie within the data. Says what is wrong otherwise.
pub(crate) fn check(file: &mut (impl Read + Seek), frames: usize, rate: FrameRate) -> io::Result<std::result::Result<(), String>> {
    let length = file.seek(SeekFrom::End(0))?;
    let (mut at, mut index, mut data_bytes) = (0, None, 0);
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 16];
        let read = read_up_to(file, &mut head)?;
        let size = match u32_at(&head, 0) {
            _ if read < 8 => None,
            // The size stands behind the kind.
            1 => u64_at(&head, 8),
            0 => Some(length - at),
            size => Some(size.into()),
        };
        let Some(end) = size.filter(|size| *size >= 8).and_then(|size| at.checked_add(size)).filter(|end| *end <= length) else {
            return Ok(Err(format!("it is cut off at {length} bytes")));
        };
        match &head[4..8] {
            b"moov" if end - at <= MAX_INDEX_BYTES => {
                let mut bytes = vec![0; (end - at) as usize];
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(&mut bytes)?;
                index = Some(bytes);
            }
            b"mdat" => data_bytes += end - at,
            _ => {}
        }
        at = end;
    }
    let Some(index) = index else { return Ok(Err("it has no index (moov)".to_owned())) };
    let table = |name: &[u8; 4]| {
        let path = [b"trak", b"mdia", b"minf", b"stbl", name];
        path.iter().try_fold(&index[8..], |content, kind| inside(content, kind))
    };
    let sizes = table(b"stsz").and_then(|table| Some((u32_at_slice(table, 4)?, u32_at_slice(table, 8)?, table.get(12..)?)));
    let Some((each, count, list)) = sizes else { return Ok(Err("its index has no frames".to_owned())) };
    if count as usize != frames {
        return Ok(Err(format!("it has {count} of {frames} frames")));
    }
    let sum: u64 =
        if each > 0 { u64::from(each) * u64::from(count) } else { list.chunks_exact(4).map(|size| u64::from(u32_at(size, 0))).sum() };
    if sum == 0 || sum > data_bytes {
        return Ok(Err(format!("its frames need {sum} bytes, it has {data_bytes}")));
    }
    let track = |name: &[u8; 4]| [b"trak", b"mdia", name].iter().try_fold(&index[8..], |content, kind| inside(content, kind));
    let timescale = track(b"mdhd").and_then(|head| u32_at_slice(head, if head.first() == Some(&1) { 20 } else { 12 })).unwrap_or(0);
    let runs = table(b"stts").and_then(|table| table.get(8..)).unwrap_or_default();
    let ticks: u64 = runs.chunks_exact(8).map(|run| u64::from(u32_at(run, 0)) * u64::from(u32_at(run, 4))).sum();
    let (found, expected) = (ticks as f64 / f64::from(timescale.max(1)), frames as f64 / rate.as_f64());
    // Clocks of files tick at least a thousand times a second.
    if (found - expected).abs() > 1e-3 * frames as f64 + 0.01 * expected {
        return Ok(Err(format!("it lasts {found:.3} s, expected {expected:.3} s")));
    }
    Ok(Ok(()))
}

/// The comment in a file's index, and whether its boxes fill it exactly.
pub(crate) fn comment(bytes: &[u8]) -> (Option<String>, bool) {
    let (mut at, mut comment, mut data) = (0, None, false);
    while let Some(head) = bytes.get(at..at + 8) {
        let size = match u32_at(head, 0) {
            0 => Some(bytes.len() - at),
            1 => bytes.get(at..).and_then(|rest| u64_at(rest, 8)).and_then(|size| size.try_into().ok()),
            size => Some(size as usize),
        };
        let Some(end) = size.filter(|size| *size >= 8).and_then(|size| at.checked_add(size)) else { break };
        data |= &head[4..] == b"mdat";
        if &head[4..] == b"moov" {
            let index = bytes.get(at + 8..end.min(bytes.len())).unwrap_or_default();
            // Behind a version and flags; behind a type and a language.
            let list = inside(index, b"udta").and_then(|data| inside(data, b"meta")).and_then(|meta| inside(meta.get(4..)?, b"ilst"));
            let text = list.and_then(|list| inside(list, b"\xa9cmt")).and_then(|item| inside(item, b"data")?.get(8..));
            comment = text.and_then(|text| String::from_utf8(text.to_vec()).ok());
        }
        at = end;
    }
    (comment, data && at == bytes.len())
}

/// The content of the first box of this kind.
fn inside<'a>(mut content: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let length = u32_at_slice(content, 0)? as usize;
        let found = content.get(..length).filter(|found| found.len() >= 8)?;
        if &found[4..8] == kind {
            return Some(&found[8..]);
        }
        content = &content[length..];
    }
}

fn read_up_to(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn u32_at_slice(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|bytes| u32_at(bytes, 0))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Clip, Format, encode::encode};

    const RATE: f64 = 12.0;

    fn rate() -> FrameRate {
        FrameRate::from_f64(RATE).unwrap_or_else(|e| panic!("{e}"))
    }

    fn checked(file: &[u8], frames: usize) -> std::result::Result<(), String> {
        check(&mut Cursor::new(file), frames, rate()).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn a_file_that_is_not_whole_is_found_out() {
        let mut file = Vec::new();
        let clip = Clip::new(16, 16, rate(), vec![vec![90; 16 * 16 * 4]; 5]).unwrap_or_else(|e| panic!("{e}"));
        encode(&clip, Format::Mp4, &Metadata::default(), &mut file, &mut |_| true).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(checked(&file, 5), Ok(()), "whole");
        for cut in (0..file.len()).step_by(7).chain([file.len() - 1]) {
            assert!(checked(&file[..cut], 5).is_err(), "cut at {cut} of {}", file.len());
        }
        assert!(checked(&file, 4).is_err_and(|wrong| wrong.contains("5 of 4 frames")), "another clip");
        let at = file.windows(4).position(|kind| kind == b"mdhd").unwrap_or(0);
        file[at + 16..at + 20].copy_from_slice(&24u32.to_be_bytes());
        assert!(checked(&file, 5).is_err_and(|wrong| wrong.contains("lasts")), "twice as fast");
        assert!(checked(b"", 5).is_err_and(|wrong| wrong.contains("moov")), "empty");
    }

    #[test]
    #[cfg(feature = "av1")]
    fn large_frames_are_compressed() {
        let frame = |t: usize| (0..300 * 260).flat_map(|at| [(at % 300 + 4 * t) as u8, (at / 300) as u8, 40, 255]).collect::<Vec<u8>>();
        let clip = Clip::new(300, 260, rate(), (0..4).map(frame).collect()).unwrap_or_else(|e| panic!("{e}"));
        let metadata = Metadata { comment: "of four frames".to_owned(), ..Metadata::default() };
        let mut file = Vec::new();
        encode(&clip, Format::Mp4, &metadata, &mut file, &mut |_| true).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(checked(&file, 4), Ok(()), "whole");
        assert_eq!(comment(&file), (Some("of four frames".to_owned()), true));
        for kind in [b"av01", b"av1C"] {
            assert!(file.windows(4).any(|found| found == kind), "no {}", String::from_utf8_lossy(kind));
        }
        assert!(10 * file.len() < 4 * 300 * 260 * 3 / 2, "{} bytes", file.len());
    }
}
