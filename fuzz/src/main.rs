//! Seeded files of every kind through their parsers: `kinora-fuzz [files] [seed]`. Fails at a panic, a bad file that is
//! accepted, a good one that is refused, and one that takes memory or time out of proportion. What libFuzzer begins with is read first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kinora_fuzz::kinds::{Kind, all};
use kinora_fuzz::random::Random;
use kinora_fuzz::targets::{self, Target};

/// The targets of libFuzzer, by the folders of their corpus.
const TARGETS: [(&str, Target); 6] = [
    ("config", targets::config),
    ("index", targets::index),
    ("media", targets::media),
    ("options", targets::options),
    ("tokenizer", targets::tokenizer),
    ("weights", targets::weights),
];

/// Reads what libFuzzer begins with: right files of each target, but for those whose names begin with `huge`, which once did harm.
fn corpus() -> std::io::Result<usize> {
    let mut files = 0;
    for (name, read) in TARGETS {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/").to_owned() + name)? {
            let (path, bytes) = entry.and_then(|entry| Ok((entry.path(), std::fs::read(entry.path())?)))?;
            let right = !entry_name(&path).starts_with("huge");
            assert_eq!(read(&bytes), right, "{}", path.display());
            files += 1;
        }
    }
    Ok(files)
}

fn entry_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file may take a second, and another for each MiB of it; the machine may do other things meanwhile.
fn longest(bytes: usize) -> Duration {
    Duration::from_secs(1 + (bytes as u64 >> 20)) * 4
}

/// Bytes beyond what was held before that reading a file may take.
fn most_memory(bytes: usize) -> usize {
    2 * bytes + (64 << 20)
}

/// The most this process held (`VmHWM`) or holds (`VmRSS`), where the system tells.
fn held(kind: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(kind))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kilobytes| kilobytes << 10)
}

/// What came of a kind.
#[derive(Default)]
struct Tally {
    accepted: usize,
    files: usize,
    slowest: Duration,
    most: usize,
}

fn try_file(kind: &Kind, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let bytes = (kind.make)(&mut Random(seed));
    // Forgets the peak until now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (before, begun) = (held("VmRSS:"), Instant::now());
    let read = std::panic::catch_unwind({
        let (read, bytes) = (kind.read, &bytes);
        move || read(bytes)
    });
    let (taken, most) = (begun.elapsed(), before.zip(held("VmHWM:")).map_or(0, |(before, most)| most.saturating_sub(before)));
    let failed = |what: String| Err(format!("`{}`, seed {seed}, {} bytes: {what}", kind.name, bytes.len()));
    let Ok(accepted) = read else { return failed("it panics".into()) };
    if kind.accepted.is_some_and(|expected| expected != accepted) {
        return failed(if accepted { "accepted".into() } else { "refused".into() });
    }
    // Miri is slow and takes memory of its own: it looks for what is undefined.
    if taken > longest(bytes.len()) && !cfg!(miri) {
        return failed(format!("{taken:?}"));
    }
    if most > most_memory(bytes.len()) && !cfg!(miri) {
        return failed(format!("{} MiB", most >> 20));
    }
    tally.accepted += usize::from(accepted);
    tally.files += 1;
    tally.slowest = tally.slowest.max(taken);
    tally.most = tally.most.max(most);
    Ok(())
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let (files, first) = (numbers.next().unwrap_or(25_000u64), numbers.next().unwrap_or(20_261_128));
    println!("{} files of the corpus", corpus().expect("a corpus for each target"));
    let kinds = all();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut failures = Vec::new();
    // Damage without a plan finds more than one kind, and gets half of the files.
    let (planned, free): (Vec<&Kind>, Vec<&Kind>) = kinds.iter().partition(|kind| kind.accepted.is_some());
    for (kinds, share) in [(planned, files / 2), (free, files - files / 2)] {
        for (number, kind) in (0..share).map(|number| (number, kinds[number as usize % kinds.len()])) {
            let seed = first.wrapping_add(number.wrapping_mul(0x9e37));
            if let Err(failure) = try_file(kind, seed, tallies.entry(kind.target).or_default()) {
                failures.push(failure);
            }
        }
    }
    for (target, Tally { accepted, files, slowest, most }) in &tallies {
        println!("{target}: {accepted} of {files} files accepted, the slowest took {slowest:.1?}, the largest {} MiB", most >> 20);
    }
    let bad = kinds.iter().filter(|kind| kind.accepted == Some(false)).count();
    println!("{} kinds, {bad} of them bad in a known way; {files} files, {} failures", kinds.len(), failures.len());
    failures.iter().take(40).for_each(|failure| eprintln!("{failure}"));
    assert!(failures.is_empty(), "{} failures", failures.len());
}
