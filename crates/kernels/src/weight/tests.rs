//! Weights: their values, rows and panels.

use super::*;
use crate::place::{ByteSource, SharedBytes};

#[test]
fn panels_hold_taps_outside_channels() {
    let shape = Shape::new(&[2, 3, 1, 1, 2]);
    let weight = Weight::from_f32("w", shape, &(0..12).map(|v| v as f32).collect::<Vec<_>>(), WeightFormat::F32);
    let bytes = weight.panel_bytes();
    let packed: &[f32] = bytemuck::cast_slice(&bytes);
    assert_eq!(packed.len(), 2 * 4 * PANEL, "two taps of four padded channels");
    // w[row 1, channel 2, tap 1] = 6 + 2·2 + 1
    assert_eq!(packed[(4 + 2) * PANEL + 1], 11.0, "row is the column of the panel");
    assert_eq!(packed[3 * PANEL], 0.0, "padding channel");
}

#[test]
fn quantised_rows_end_with_a_shorter_block() {
    // Two rows of 33 values: 1, 2, …, 33 and their negatives, in blocks of 32 and 1 with a scale each.
    let values: Vec<u8> = (1..=33i8).chain((1..=33).map(|v: i8| -v)).map(i8::cast_unsigned).collect();
    let scales = [0.5, 2.0, 1.0, 4.0].map(|s| f16::from_f32(s).to_le_bytes());
    let file: SharedBytes = Arc::new([values, scales.concat()].concat());
    let load = |range, start, row| {
        let place = |range, encoding| Place { file: Arc::clone(&file), range, encoding };
        let scales = Some(Scales { place: place(start..start + 8, Encoding::F16), block: [1, 32] });
        let stored = Stored { row, scales, ..place(range, Encoding::I8).into() };
        Weight::stored("q", Shape::new(&[2, 33]), stored, WeightFormat::F32)
    };
    assert!(load(0..65, 66, 33).is_none(), "too few values");
    assert!(load(0..66, 67, 33).is_none(), "the last scale is cut off");
    assert!(load(0..66, 66, 0).is_none(), "no row length");
    let weight = load(0..66, 66, 33).expect("fits");
    let all = weight.values();
    assert_eq!((all[0], all[31], all[32], all[33], all[65]), (0.5, 16.0, 66.0, -1.0, -132.0), "value times scale of its block");
    let row = |index| weight.row(index).expect("readable");
    assert_eq!((row(1).as_deref(), row(2)), (Some(&all[33..]), None), "one row alone");
}

#[test]
fn factors_apply_to_their_rows_and_columns() {
    let values = Place { encoding: Encoding::I8, file: Arc::new(vec![1u8; 12]), range: 0..12 };
    let scaled = |block: [usize; 2], factors: &[f32]| {
        let scales = Some(Scales { place: Place::from_f32(factors), block });
        let stored = Stored { row: 4, scales, ..values.clone().into() };
        Weight::stored("w", Shape::new(&[3, 4]), stored, WeightFormat::F32).map(|weight| weight.values())
    };
    assert_eq!(scaled([3, 4], &[2.0]), Some(vec![2.0; 12]), "one for all");
    assert_eq!(scaled([1, 4], &[1.0, 2.0, 3.0]), Some([[1.0; 4], [2.0; 4], [3.0; 4]].concat()), "one for each row");
    let blocks = [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0];
    assert_eq!(scaled([2, 3], &[1.0, 2.0, 3.0, 4.0]), Some(blocks.to_vec()), "blocks, the last ones shorter");
    assert_eq!(scaled([2, 3], &[1.0, 2.0, 3.0]), None, "one is missing");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    struct Broken;
    impl ByteSource for Broken {
        fn size(&self) -> u64 {
            16
        }

        fn read(&self, _: Range<u64>) -> io::Result<std::borrow::Cow<'_, [u8]>> {
            Err(io::Error::other("unplugged"))
        }
    }
    let place = Place { file: Arc::new(Broken), range: 0..16, encoding: Encoding::F32 };
    let weight = Weight::stored("blocks.0.w", Shape::new(&[2, 2]), place.into(), WeightFormat::F32).expect("it should fit");
    let error = weight.check().expect_err("unreadable");
    assert_eq!((error.code(), error.to_string().contains("`blocks.0.w`")), ("unreadable-weight", true), "{error}");
    assert!(weight.row(0).is_err() && weight.values().iter().all(|v| v.is_nan()), "no value is made up");
}

#[test]
fn values_that_are_not_finite_where_they_are_stored_are_refused_by_name() {
    let check = |dims: &[usize], value: f32, format| {
        let mut values = vec![1.0; dims.iter().product()];
        values[3] = value;
        Weight::from_f32("blocks.0.w", Shape::new(dims), &values, format).check()
    };
    for format in [WeightFormat::F32, WeightFormat::F16] {
        for value in [f32::NAN, f32::INFINITY] {
            let error = check(&[2, 4], value, format).expect_err("not finite");
            assert_eq!(error.code(), "non-finite");
            assert!(error.to_string().contains(&format!("`blocks.0.w` holds {value} at 3")), "{error}");
        }
    }
    let error = check(&[2, 4], -70_000.0, WeightFormat::F16).expect_err("beyond f16");
    assert_eq!(error.code(), "weight-overflow");
    assert!(error.to_string().contains("holds -70000 at 3, expected") && error.hint().is_some(), "{error}");
    assert!(check(&[2, 4], 65_504.0, WeightFormat::F16).is_ok(), "the largest f16");
    assert!(check(&[2, 4], -70_000.0, WeightFormat::F32).is_ok(), "f32 holds it");
    assert!(check(&[8], -70_000.0, WeightFormat::F16).is_ok(), "vectors stay f32");
}

#[test]
fn large_weights_are_looked_at_in_windows() {
    let shape = Shape::new(&[3, WINDOW_BYTES / 8 + 1]);
    let mut values = vec![1.0; shape.elements()];
    let last = values.len() - 1;
    values[last] = f32::NAN;
    let error = Weight::from_f32("w", shape, &values, WeightFormat::F32).check().expect_err("not finite");
    assert!(error.to_string().contains(&format!("holds NaN at {last}")), "{error}");
}

#[test]
fn stacking_concatenates_rows() {
    let part = |v: f32| Weight::from_f32("p", Shape::new(&[1, 2]), &[v, v], WeightFormat::F16);
    let stacked = Weight::stack(&[part(1.0), part(2.0)]).expect("equal inner shapes");
    assert_eq!(stacked.shape(), Shape::new(&[2, 2]), "rows add up");
    assert_eq!(stacked.values(), [1.0, 1.0, 2.0, 2.0], "in order");
}
