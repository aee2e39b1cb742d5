//! Arguments for many clips of one command: a batch, a worker, and what of it is to be done here.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ManyArgs {
    /// Make one clip per line of a file: a JSON object of these flags, like {"prompt": "a fox", "lastImage": "b.png"}. Clips are
    /// computed side by side. With `-` lines are read from standard input as they come, and each is answered by a line
    #[arg(help_heading = "Prompt", long, value_name = "FILE", conflicts_with_all = ["output", "latents_in", "latents_out"])]
    pub(crate) batch: Option<PathBuf>,
    /// Leave out lines whose output is there, whole and made from the same request
    #[arg(help_heading = "Prompt", long, requires = "batch")]
    pub(crate) resume: bool,
    /// Do every Nth line alone, from line I on, counted from 0: --shard 0/4 to 3/4 on four machines make the whole
    #[arg(help_heading = "Prompt", long, value_name = "I/N", requires = "batch", value_parser = parse_shard)]
    pub(crate) shard: Option<Shard>,
    /// Whether this is a line of a batch.
    #[arg(skip)]
    pub(crate) line: bool,
    /// Whether nobody chose a seed.
    #[arg(skip)]
    pub(crate) any_seed: bool,
}

impl ManyArgs {
    /// Whether jobs are read from standard input.
    pub(crate) fn is_worker(&self) -> bool {
        self.batch.as_deref().is_some_and(|path| path.as_os_str() == "-")
    }
}

/// Every `count`th line from `index` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// Whether line `number`, from 0, is to be done here.
    pub(crate) fn has(self, number: u64) -> bool {
        number % self.count == self.index
    }
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    let wrong = || format!("`{text}` is not a shard; expected I/N with I from 0 to N-1, like 0/4");
    let (index, count) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().ok();
    let (index, count) = number(index).zip(number(count)).filter(|(index, count)| index < count).ok_or_else(wrong)?;
    Ok(Shard { index, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_disjoint_and_complete() {
        let shards: Vec<Shard> = ["0/3", "1/3", "2/3"].into_iter().filter_map(|text| parse_shard(text).ok()).collect();
        for number in 0..100 {
            assert_eq!(shards.iter().filter(|shard| shard.has(number)).count(), 1, "line {number}");
        }
        for text in ["3/3", "0/0", "1", "-1/2", "a/b", "1/2/3", ""] {
            assert!(parse_shard(text).is_err(), "`{text}` was accepted");
        }
    }
}
