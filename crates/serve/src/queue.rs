//! Who is next: jobs of one owner in their order, owners in turns, so that a thousand jobs of one delay those of another by one.

use std::collections::{HashMap, VecDeque};

/// Waiting jobs by their numbers.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    waiting: HashMap<String, VecDeque<u64>>,
    /// Owners with waiting jobs, next first.
    turns: VecDeque<String>,
}

impl FairQueue {
    pub(crate) fn push(&mut self, owner: &str, job: u64) {
        let own = self.waiting.entry(owner.to_owned()).or_default();
        if own.is_empty() {
            self.turns.push_back(owner.to_owned());
        }
        own.push_back(job);
    }

    /// Puts a job back that was taken and not made: it comes first.
    pub(crate) fn push_front(&mut self, owner: &str, job: u64) {
        let own = self.waiting.entry(owner.to_owned()).or_default();
        if own.is_empty() {
            self.turns.push_front(owner.to_owned());
        }
        own.push_front(job);
    }

    pub(crate) fn pop(&mut self) -> Option<u64> {
        let owner = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&owner)?;
        let job = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        job
    }

    /// Whether it was waiting.
    pub(crate) fn remove(&mut self, owner: &str, job: u64) -> bool {
        let Some(own) = self.waiting.get_mut(owner) else { return false };
        let before = own.len();
        own.retain(|waiting| *waiting != job);
        let removed = own.len() < before;
        if own.is_empty() {
            self.waiting.remove(owner);
            self.turns.retain(|turn| turn != owner);
        }
        removed
    }

    /// Waiting jobs of an owner.
    pub(crate) fn count(&self, owner: &str) -> usize {
        self.waiting.get(owner).map_or(0, VecDeque::len)
    }

    /// Waiting jobs of all.
    pub(crate) fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns_and_keep_their_order() {
        let mut queue = FairQueue::default();
        (0..5).for_each(|job| queue.push("many", job));
        queue.push("few", 10);
        queue.push("few", 11);
        assert_eq!((queue.count("many"), queue.len()), (5, 7), "all wait");
        assert_eq!(queue.pop(), Some(0), "first come");
        queue.push("late", 20);
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [10, 1, 20, 11, 2, 3, 4], "in turns");
    }

    #[test]
    fn what_is_taken_back_is_gone_and_what_is_put_back_comes_first() {
        let mut queue = FairQueue::default();
        queue.push("a", 1);
        queue.push("a", 2);
        queue.push("b", 3);
        assert!(queue.remove("a", 1) && !queue.remove("a", 1) && !queue.remove("c", 1), "once");
        assert!(queue.remove("b", 3), "the only one");
        queue.push_front("b", 4);
        queue.push_front("a", 5);
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [4, 5, 2], "no owner without jobs is left");
    }
}
