//! Which generations share one row of tokens ("Patch n' Pack", arXiv 2307.06304 §2.1). Sequences lie one after another with
//! nothing between them and attend only to themselves, so no padding and no mask between tokens exists.

use super::solvers::table::Variance;

/// Tokens of one pack: enough to keep a large GPU busy, few enough that activations stay small beside the weights.
pub const MAX_PACKED_TOKENS: usize = 8192;

/// What decides whether a generation fits a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Tokens of all its branches.
    pub tokens: usize,
    /// Denoising steps: a pack runs as many as its longest, so unlike ones would wait for each other.
    pub steps: usize,
    /// Features of a token that guidance acts on, which is one number of a pack.
    pub guided_channels: usize,
    /// How strongly a second branch steers, in bits; one plan serves a pack.
    pub conditioning_scale: Option<u32>,
    /// Where the fresh noise of its solver has its amplitude from, if that adds some; one kernel adds it for all.
    pub variance: Option<Variance>,
}

impl Item {
    /// Itself but for the tokens.
    fn with_tokens(self, tokens: usize) -> Self {
        Self { tokens, ..self }
    }
}

/// Greedy packing: each item goes to the first pack of its kind with room for it. Indices of the items of each pack, in order;
/// an item larger than `most` tokens has a pack of its own.
pub fn pack(items: &[Item], most: usize) -> Vec<Vec<usize>> {
    let mut packs: Vec<(Item, Vec<usize>)> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let alike = |a: &Item, b: &Item| a.with_tokens(0) == b.with_tokens(0);
        let fits = |pack: &&mut (Item, Vec<usize>)| alike(&pack.0, item) && pack.0.tokens + item.tokens <= most;
        match packs.iter_mut().find(fits) {
            Some((filled, members)) => {
                filled.tokens += item.tokens;
                members.push(i);
            }
            None => packs.push((*item, vec![i])),
        }
    }
    packs.into_iter().map(|(_, members)| members).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(tokens: &[usize], steps: &[usize]) -> Vec<Item> {
        tokens
            .iter()
            .zip(steps)
            .map(|(tokens, steps)| Item { tokens: *tokens, steps: *steps, guided_channels: 32, conditioning_scale: None, variance: None })
            .collect()
    }

    #[test]
    fn items_go_to_the_first_pack_with_room() {
        let packs = pack(&items(&[60, 50, 40, 30, 120, 10], &[8; 6]), 100);
        assert_eq!(packs, [vec![0, 2], vec![1, 3, 5], vec![4]], "60 + 40, 50 + 30 + 10, and one that is too large");
    }

    #[test]
    fn unlike_schedules_and_guidance_are_kept_apart() {
        let mut mixed = items(&[10; 4], &[8, 4, 8, 4]);
        assert_eq!(pack(&mixed, 100), [[0, 2], [1, 3]], "by steps");
        mixed[2].guided_channels = 3;
        assert_eq!(pack(&mixed, 100), [vec![0], vec![1, 3], vec![2]], "by guided channels");
        mixed[2].conditioning_scale = Some(0);
        assert_eq!(pack(&mixed[1..], 100), [vec![0, 2], vec![1]], "by what steers");
        mixed[1].variance = Some(Variance::Fixed);
        mixed[3].variance = Some(Variance::Range);
        assert_eq!(pack(&mixed, 100), [[0], [1], [2], [3]], "by the variance of fresh noise");
        assert!(pack(&[], 100).is_empty(), "nothing to pack");
    }

    #[test]
    fn every_item_is_packed_once() {
        let tokens: Vec<usize> = (0..200).map(|i| 1 + i * 37 % 90).collect();
        let packs = pack(&items(&tokens, &[8; 200]), 100);
        let mut all: Vec<usize> = packs.iter().flatten().copied().collect();
        assert!(packs.iter().all(|pack| pack.iter().map(|i| tokens[*i]).sum::<usize>() <= 100), "none too full");
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>(), "none lost or doubled");
    }
}
