//! Numbers that are the same in every run and on every target, and damage without a plan: for tests of all crates and for `fuzz/`.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part, and `fuzz/` exports it")]

/// Steele et al., `SplitMix64`.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..limit`, 0 if there is none.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// One of `1..=most`.
    pub fn upto(&mut self, most: usize) -> usize {
        1 + self.below(most)
    }

    /// Heads or tails.
    pub fn chance(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// One to four changes: bits, numbers that are extreme, cuts, pieces that are repeated or left out, characters of JSON. Most at the
/// beginning, where headers are.
pub fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    const EXTREME: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff_ffff, 1 << 31, u64::MAX, 1 << 62];
    for _ in 0..=random.below(4) {
        let reach = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(700) };
        let at = random.below(reach);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.splice(at..at, bytes[at..].iter().take(9).copied().collect::<Vec<_>>()).for_each(drop),
            2 => bytes.drain(at..bytes.len().min(at + 1 + random.below(9))).for_each(drop),
            3 => {
                let width = 1 << random.below(4);
                let number = EXTREME[random.below(EXTREME.len())].to_le_bytes();
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
            }
            4 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = b"0123456789{}[]\",:-eE"[random.below(20)]),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }
}
