//! The header of GGUF files, version 2 and 3 (specification: ggml, docs/gguf.md). Nothing in it is trusted: lengths are compared
//! with the bytes that are there before anything is allocated, and tensors must tile the data.

use std::collections::BTreeMap;

use kinora_kernels::{ByteSource, Encoding, sort_by_numbers};

use super::safetensors::Header;
use super::tensor::{DType, Entry};

/// Bytes that are read at first; a header that is longer is read again, four times as much.
const FIRST_READ: u64 = 1 << 20;
/// Longest header, with the vocabulary of a tokenizer in it.
const MOST_HEADER_BYTES: u64 = 100_000_000;
/// Most tensors, and most entries of metadata.
const MOST_ENTRIES: u64 = 1 << 16;
/// Most extents of a tensor: ggml has 4, and files repaired for a 3-D convolution 5.
const MOST_DIMS: u32 = 5;
/// Most arrays within arrays.
const MOST_DEPTH: usize = 3;

/// Why reading stopped.
enum Stop {
    /// The bytes read so far end here.
    More,
    Wrong(String),
}

impl From<String> for Stop {
    fn from(problem: String) -> Self {
        Self::Wrong(problem)
    }
}

/// Parses the header of a file that begins with `GGUF`.
pub(super) fn parse(file: &dyn ByteSource) -> Result<Header, String> {
    let size = file.size();
    let mut window = FIRST_READ;
    loop {
        let start = file.read(0..window.min(size)).map_err(|e| e.to_string())?;
        match header(&mut Reader { rest: &start, read: start.len() as u64 }, size) {
            Ok(header) => return Ok(header),
            Err(Stop::Wrong(problem)) => return Err(problem),
            Err(Stop::More) if window >= size => return Err(format!("the header does not end within the file's {size} bytes")),
            Err(Stop::More) if window >= MOST_HEADER_BYTES => {
                return Err(format!("the header is longer than the {MOST_HEADER_BYTES} bytes allowed"));
            }
            Err(Stop::More) => window *= 4,
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes there were at the beginning.
    read: u64,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let (taken, rest) = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count)).ok_or(Stop::More)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes read so far.
    fn position(&self) -> u64 {
        self.read - self.rest.len() as u64
    }

    /// A little-endian number of so many bytes.
    fn number(&mut self, bytes: u64) -> Result<u64, Stop> {
        Ok(self.bytes(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        self.number(4).map(|number| number as u32)
    }

    /// A number of things, each of which takes at least `bytes`.
    fn count(&mut self, what: &str, most: u64) -> Result<u64, Stop> {
        let count = self.number(8)?;
        if count > most { Err(format!("{count} {what}, expected at most {most}").into()) } else { Ok(count) }
    }

    fn text(&mut self, what: &str) -> Result<&'a str, Stop> {
        let length = self.count("bytes of a text", MOST_HEADER_BYTES)?;
        std::str::from_utf8(self.bytes(length)?).map_err(|e| format!("{what} is not UTF-8: {e}").into())
    }

    /// Reads over an array.
    fn array(&mut self, depth: usize) -> Result<(), Stop> {
        let (kind, count) = (self.u32()?, self.count("elements of an array", MOST_HEADER_BYTES)?);
        match kind {
            8 | 9 if depth == MOST_DEPTH => Err(format!("arrays within arrays, more than {MOST_DEPTH}").into()),
            8 => (0..count).try_for_each(|_| {
                let length = self.count("bytes of a text", MOST_HEADER_BYTES)?;
                self.bytes(length).map(drop)
            }),
            9 => (0..count).try_for_each(|_| self.array(depth + 1)),
            _ => self.bytes(count.saturating_mul(scalar_bytes(kind)?)).map(drop),
        }
    }
}

/// Bytes of a scalar of metadata.
fn scalar_bytes(kind: u32) -> Result<u64, String> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(format!("metadata of type {kind}, expected 0 to 12")),
    }
}

fn header(reader: &mut Reader<'_>, size: u64) -> Result<Header, Stop> {
    reader.bytes(4)?;
    let version = reader.u32()?;
    if !matches!(version, 2 | 3) {
        let swapped = if matches!(version.swap_bytes(), 1..=3) { "a big-endian file" } else { "another version" };
        return Err(format!("GGUF version {version} is {swapped}; expected 2 or 3, little-endian").into());
    }
    let (tensors, entries) = (reader.count("tensors", MOST_ENTRIES)?, reader.count("entries of metadata", MOST_ENTRIES)?);
    let (mut metadata, mut arrays) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..entries {
        let key = reader.text("a key of the metadata")?;
        let value = match reader.u32()? {
            8 => reader.text(key)?.to_owned(),
            9 => {
                let start = reader.position();
                reader.array(0)?;
                // All that is ever asked for.
                if key.starts_with("tokenizer.ggml.") {
                    arrays.insert(key.to_owned(), start..reader.position());
                }
                String::new()
            }
            kind => reader.number(scalar_bytes(kind)?)?.to_string(),
        };
        if metadata.insert(key.to_owned(), value).is_some() {
            return Err(format!("the metadata `{key}` occurs twice").into());
        }
    }
    if metadata.get("split.count").is_some_and(|count| count != "0" && count != "1") {
        return Err("this is one of several parts; join them with `llama-gguf-split --merge`".to_owned().into());
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n: &u64| n.is_power_of_two() && *n <= 1 << 16)
            .ok_or_else(|| format!("`general.alignment` is {text}, expected a power of two up to 65536"))?,
    };
    let mut found = Vec::new();
    for _ in 0..tensors {
        found.push(tensor(reader)?);
    }
    let data_start = reader.position().next_multiple_of(alignment);
    let mut header = Header { tensors: BTreeMap::new(), metadata, arrays };
    // As ggml writes and demands it: one after another, each filled up to the alignment.
    sort_by_numbers(&mut found, |(_, entry)| [entry.bytes.start, entry.bytes.end]);
    let mut end = 0;
    for (name, Entry { dtype, shape, bytes }) in found {
        if bytes.start != end {
            return Err(format!("tensor `{name}` begins at byte {} of the data, expected {end}", bytes.start).into());
        }
        let place = data_start.checked_add(bytes.start).zip(data_start.checked_add(bytes.end)).filter(|(_, end)| *end <= size);
        let Some((start, stop)) = place else {
            return Err(format!("tensor `{name}` ends at byte {} of the data, but the file has {size} bytes in all", bytes.end).into());
        };
        end = bytes.end.next_multiple_of(alignment);
        if header.tensors.insert(name.clone(), Entry { dtype, shape, bytes: start..stop }).is_some() {
            return Err(format!("tensor `{name}` occurs twice").into());
        }
    }
    // The last one need not be filled up.
    if data_start + end < size {
        return Err(format!("the tensors end at byte {}, but the file has {size}", data_start + end).into());
    }
    Ok(header)
}

/// The elements of an array of texts, from its type on.
pub(super) fn texts(array: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader { rest: array, read: 0 };
    let is_text = matches!(reader.u32(), Ok(8));
    let count = reader.number(8).ok().filter(|_| is_text)?;
    (0..count).map(|_| reader.text("an element").ok().map(str::to_owned)).collect()
}

/// The elements of an array of numbers as their bits, from its type on.
pub(super) fn numbers(array: &[u8]) -> Option<Vec<u64>> {
    let mut reader = Reader { rest: array, read: 0 };
    let bytes = scalar_bytes(reader.u32().ok()?).ok()?;
    let count = reader.number(8).ok()?;
    (0..count).map(|_| reader.number(bytes).ok()).collect()
}

/// Name, type, extents and place within the data.
fn tensor(reader: &mut Reader<'_>) -> Result<(String, Entry), Stop> {
    let name = reader.text("the name of a tensor")?.to_owned();
    let dims = reader.u32()?;
    if dims > MOST_DIMS {
        return Err(format!("tensor `{name}` has {dims} extents, expected at most {MOST_DIMS}").into());
    }
    let mut shape = (0..dims).map(|_| reader.number(8)).collect::<Result<Vec<u64>, _>>()?;
    let wrong = |problem: String| Stop::Wrong(format!("tensor `{name}`: {problem}"));
    let dtype = dtype(reader.u32()?).map_err(wrong)?;
    let start = reader.number(8)?;
    let elements = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
    let sized = elements.and_then(|elements| dtype.bytes(elements)).and_then(|bytes| start.checked_add(bytes));
    let row = shape.first().copied().unwrap_or(1);
    // The file's first extent is the fastest one.
    shape.reverse();
    let indices = shape.iter().map(|n| usize::try_from(*n).ok()).collect::<Option<Vec<_>>>();
    match (indices, sized, dtype.bytes(row)) {
        // The data is aligned, so the end is too, and far from the largest number.
        (Some(indices), Some(end), Some(_)) if end < u64::MAX / 2 => Ok((name, Entry { dtype, shape: indices, bytes: start..end })),
        _ => Err(wrong(format!("{dtype} cannot have the shape {shape:?}"))),
    }
}

/// Numbers and names of types that are known but cannot be read.
const OTHER_TYPES: &str = "9 Q8_1 15 Q8_K 16 IQ2_XXS 17 IQ2_XS 18 IQ3_XXS 19 IQ1_S 21 IQ3_S 22 IQ2_S 23 IQ4_XS 29 IQ1_M 34 TQ1_0 35 TQ2_0 \
                           39 MXFP4 40 NVFP4";

fn dtype(number: u32) -> Result<DType, String> {
    Ok(match number {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Block(Encoding::Q4_0),
        3 => DType::Block(Encoding::Q4_1),
        6 => DType::Block(Encoding::Q5_0),
        7 => DType::Block(Encoding::Q5_1),
        8 => DType::Block(Encoding::Q8_0),
        10 => DType::Block(Encoding::Q2K),
        11 => DType::Block(Encoding::Q3K),
        12 => DType::Block(Encoding::Q4K),
        13 => DType::Block(Encoding::Q5K),
        14 => DType::Block(Encoding::Q6K),
        20 => DType::Block(Encoding::Iq4Nl),
        25 => DType::I16,
        26 => DType::I32,
        27 => DType::I64,
        28 => DType::F64,
        30 => DType::BF16,
        other => {
            let (number, mut words) = (other.to_string(), OTHER_TYPES.split(' '));
            let name = words.find(|word| *word == number).and_then(|_| words.next()).unwrap_or("unknown");
            return Err(format!(
                "type {other} ({name}) cannot be read; expected F32, F16, BF16, Q8_0, Q4_0 to Q5_1, Q2_K to Q6_K or IQ4_NL"
            ));
        }
    })
}
