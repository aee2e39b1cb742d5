//! How much work a submission holds, by what the ones before it took, and where a plan's dispatches are cut for it. Knows
//! no device: it is told how long things took.

/// What a submission should take, in seconds. Browsers and other windows get a turn between two of them.
const WANTED: f64 = 0.085;

/// What none should take: beyond it less is tried at once. Windows resets a device after two seconds.
const LONGEST: f64 = 0.1;

/// What a submission holds before anything is known: 2.5 ms on a GPU of 0.4 TFLOP/s, 0.2 s on an adapter of 5 GFLOP/s. Never
/// less, since below this the time of a submission is mostly that of asking for it.
const FIRST_FLOPS: f64 = 1e9;

/// Parts of a dispatch are no smaller than this share of a submission, so that each still fills a large GPU several times.
const SMALLEST_PART: f64 = 0.3;

/// The floating-point operations a submission holds, learned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    limit: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { limit: FIRST_FLOPS }
    }
}

impl Pace {
    /// Floating-point operations of the next submission.
    pub(crate) fn limit(self) -> f64 {
        self.limit
    }

    /// Learns from a submission that took `seconds` for `flops`. If nobody waited for its end it took less than that: then
    /// only more work can be the consequence. At most twice as much at once: kernels do unlike work per second.
    pub(crate) fn learn(&mut self, flops: f64, seconds: f64, waited: bool) {
        let fitting = (flops * WANTED / seconds.max(1e-6)).min(2.0 * self.limit);
        let grows = fitting > self.limit && flops >= 0.25 * self.limit;
        let shrinks = fitting < self.limit && waited && (flops >= 0.5 * self.limit || seconds > LONGEST);
        if grows || shrinks {
            self.limit = fitting.max(FIRST_FLOPS);
        }
    }
}

/// The work of one dispatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) items: u32,
    pub(crate) flops: f64,
}

/// The items `first..end` of dispatch `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) index: usize,
    pub(crate) first: u32,
    pub(crate) end: u32,
}

/// Where in a list of dispatches the next submission begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    index: usize,
    item: u32,
}

impl Cursor {
    /// Whether nothing is left.
    pub(crate) fn at_end(self, work: &[Work]) -> bool {
        self.index >= work.len()
    }

    /// The parts of the next submission and their floating-point operations: as many as fit `limit`, but at least one item.
    /// Only the first and the last part can be less than a whole dispatch. `None` at the end.
    pub(crate) fn submission(&mut self, work: &[Work], limit: f64) -> Option<(Vec<Part>, f64)> {
        let (mut parts, mut flops) = (Vec::new(), 0.0);
        while let Some(&Work { items, flops: whole }) = work.get(self.index) {
            let rest = items - self.item;
            let item = whole / f64::from(items.max(1));
            let count = self.cut(rest, item, limit, limit - flops, parts.is_empty());
            if count == 0 && rest > 0 {
                break;
            }
            if count > 0 {
                parts.push(Part { index: self.index, first: self.item, end: self.item + count });
            }
            flops += item * f64::from(count);
            if count < rest {
                self.item += count;
                break;
            }
            *self = Self { index: self.index + 1, item: 0 };
        }
        (!parts.is_empty()).then_some((parts, flops))
    }

    /// How many of the next `rest` items go into a submission that holds `limit` operations and has room for `left`.
    fn cut(self, rest: u32, item: f64, limit: f64, left: f64, empty: bool) -> u32 {
        let fitting = |flops: f64| if item > 0.0 { (flops / item).clamp(0.0, f64::from(rest)) as u32 } else { rest };
        let (count, smallest) = (fitting(left), (limit * SMALLEST_PART / item).ceil());
        if count == rest {
            return rest;
        }
        if empty && f64::from(count) < 2.0 * smallest {
            // Few large items: nothing can be spared for the part after this one.
            return count.max(1);
        }
        // What is left for later must not be a sliver either.
        let count = if f64::from(rest - count) < smallest { (f64::from(rest) - smallest).max(0.0) as u32 } else { count };
        if f64::from(count) >= smallest || empty { count.max(u32::from(empty)) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An adapter of a constant speed that runs submissions one after another, two at most ahead of the host.
    struct Simulated {
        flops_per_second: f64,
        seconds: Vec<f64>,
        /// Items of the dispatches that were cut.
        cut: Vec<u32>,
    }

    impl Simulated {
        fn run(&mut self, pace: &mut Pace, work: &[Work]) {
            let mut cursor = Cursor::default();
            let mut flight = std::collections::VecDeque::new();
            let mut done = vec![0; work.len()];
            while let Some((parts, flops)) = cursor.submission(work, pace.limit()) {
                if flight.len() == 2 {
                    let flops: f64 = flight.pop_front().expect("two");
                    pace.learn(flops, flops / self.flops_per_second, true);
                }
                for part in &parts {
                    assert_eq!(done[part.index], part.first, "in order and without gaps");
                    done[part.index] = part.end;
                    if part.end - part.first < work[part.index].items {
                        self.cut.push(part.end - part.first);
                    }
                }
                self.seconds.push(flops / self.flops_per_second);
                flight.push_back(flops);
            }
            assert!(done.iter().zip(work).all(|(done, work)| *done == work.items), "all of it");
        }
    }

    /// One step of Wan 2.1 1.3B: 30 blocks of `tokens` tokens, 12 heads of 128, 512 tokens of text.
    fn wan_step(tokens: usize) -> Vec<Work> {
        let rows = tokens as f64;
        let gemm =
            |n: usize, k: usize| Work { items: (tokens.div_ceil(128) * n.div_ceil(128)) as u32, flops: 2.0 * rows * n as f64 * k as f64 };
        let attention = |keys: f64| Work { items: (tokens.div_ceil(64) * 12) as u32, flops: 4.0 * rows * keys * 1536.0 };
        let norm = Work { items: tokens.div_ceil(4) as u32, flops: 8.0 * rows * 1536.0 };
        let block = [
            norm,
            gemm(4608, 1536),
            norm,
            attention(rows),
            gemm(1536, 1536),
            norm,
            gemm(1536, 1536),
            attention(512.0),
            gemm(1536, 1536),
            norm,
            gemm(8960, 1536),
            gemm(1536, 8960),
        ];
        block.repeat(30)
    }

    #[test]
    fn a_wan_step_takes_few_submissions_none_of_them_long() {
        let work = wan_step(32_760);
        let mut pace = Pace::default();
        let mut adapter = Simulated { flops_per_second: 1e13, seconds: Vec::new(), cut: Vec::new() };
        adapter.run(&mut pace, &work);
        let longest = adapter.seconds.iter().copied().fold(0.0, f64::max);
        println!(
            "{} submissions, the longest {longest:.3} s, cut dispatches of {:?} items and more",
            adapter.seconds.len(),
            adapter.cut.iter().min()
        );
        assert!(adapter.seconds.len() <= 400, "{} submissions", adapter.seconds.len());
        assert!(longest <= LONGEST, "{longest} s");
        // A GPU of 10 TFLOP/s has about 28 multiprocessors. While nothing is known of it, parts are smaller.
        let small = adapter.cut.iter().filter(|items| **items < 8 * 28).count();
        assert!(small <= 40, "{small} of {} parts would leave it idle", adapter.cut.len());
        // The next step knows the adapter.
        let mut second = Simulated { flops_per_second: 1e13, seconds: Vec::new(), cut: Vec::new() };
        second.run(&mut pace, &work);
        assert!(second.seconds.len() <= adapter.seconds.len() && second.cut.iter().all(|items| *items >= 8 * 28), "{:?}", second.cut);
    }

    #[test]
    fn slow_and_fast_adapters_find_their_pace() {
        for flops_per_second in [4e11, 2e12, 1e14] {
            let mut pace = Pace::default();
            let mut adapter = Simulated { flops_per_second, seconds: Vec::new(), cut: Vec::new() };
            adapter.run(&mut pace, &wan_step(9360));
            let longest = adapter.seconds.iter().copied().fold(0.0, f64::max);
            assert!(longest <= LONGEST, "{longest} s at {flops_per_second:e}");
            let reached = pace.limit() / flops_per_second;
            assert!((0.5 * WANTED..=LONGEST).contains(&reached), "{reached} s a submission at {flops_per_second:e}");
        }
    }

    #[test]
    fn a_submission_that_took_long_is_followed_by_smaller_ones() {
        let mut pace = Pace { limit: 1e12 };
        pace.learn(1e12, 0.5, true);
        assert!((pace.limit() - 0.17e12).abs() < 1e6, "{}", pace.limit());
        // Nobody saw it end, so that the half second says nothing.
        let mut pace = Pace { limit: 1e12 };
        pace.learn(1e12, 0.5, false);
        assert_eq!(pace.limit(), 1e12);
        pace.learn(1e12, 0.05, false);
        assert!(pace.limit() > 1e12, "it took at most that long");
        // A submission that holds little says nothing unless it took long.
        pace.learn(1e9, 1e-6, true);
        assert!(pace.limit() < 2e12);
        let mut pace = Pace::default();
        pace.learn(1e9, 10.0, true);
        assert_eq!(pace.limit(), FIRST_FLOPS, "never below what a submission costs");
    }

    #[test]
    fn the_smallest_limit_gives_an_item_a_submission() {
        let work = [Work { items: 3, flops: 30.0 }, Work { items: 1, flops: 0.0 }, Work { items: 2, flops: 8.0 }];
        let mut cursor = Cursor::default();
        let submissions: Vec<Vec<Part>> = std::iter::from_fn(|| cursor.submission(&work, 1.0)).map(|(parts, _)| parts).collect();
        let part = |index, first, end| Part { index, first, end };
        let expected =
            [vec![part(0, 0, 1)], vec![part(0, 1, 2)], vec![part(0, 2, 3)], vec![part(1, 0, 1), part(2, 0, 1)], vec![part(2, 1, 2)]];
        assert!(submissions.len() >= 5, "{submissions:?}");
        let all: Vec<Part> = submissions.concat();
        assert_eq!(all, expected.concat(), "{submissions:?}");
    }
}
