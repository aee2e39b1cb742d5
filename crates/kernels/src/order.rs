//! Sorting by numbers: one sort for everything, because each kind of element would bring a sort of its own into the WASM.

/// Sorts by two numbers, the second where the first are equal. What is equal in both stays in its order.
pub fn sort_by_numbers<T>(items: &mut Vec<T>, numbers: impl Fn(&T) -> [u64; 2]) {
    let mut order: Vec<([u64; 2], usize)> = items.iter().enumerate().map(|(at, item)| (numbers(item), at)).collect();
    order.sort_unstable();
    let mut taken: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(order.into_iter().filter_map(|(_, at)| taken[at].take()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_decides_between_equals_and_the_order_after_that() {
        let mut items = vec![("d", 2, 0), ("b", 1, 1), ("a", 1, 0), ("c", 1, 1), ("e", 2, 0)];
        sort_by_numbers(&mut items, |item| [item.1, item.2]);
        let names: Vec<&str> = items.iter().map(|item| item.0).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"], "stable");
        let mut none: Vec<u8> = Vec::new();
        sort_by_numbers(&mut none, |_| [0, 0]);
        assert!(none.is_empty(), "nothing to sort");
    }
}
