//! Four floats side by side: instructions of WASM where it runs, elsewhere an array that the compiler makes vectors of.

#[cfg(target_arch = "wasm32")]
pub(super) use wasm::{load, multiply_add, splat, store};

#[cfg(not(target_arch = "wasm32"))]
pub(super) use plain::{load, multiply_add, splat, store};

#[cfg(target_arch = "wasm32")]
mod wasm {
    use core::arch::wasm32::{f32x4_add, f32x4_mul, f32x4_splat, v128, v128_load, v128_store};

    #[inline]
    #[target_feature(enable = "simd128")]
    pub(crate) fn splat(value: f32) -> v128 {
        f32x4_splat(value)
    }

    /// The first half of eight, or the second.
    #[inline]
    #[target_feature(enable = "simd128")]
    pub(crate) fn load<const HALF: usize>(values: &[f32; 8]) -> v128 {
        const { assert!(HALF < 2, "two halves") }
        // SAFETY: sixteen bytes from there on are readable, and the instruction takes any alignment.
        unsafe { v128_load(values.as_ptr().add(4 * HALF).cast()) }
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    pub(crate) fn store<const HALF: usize>(lanes: v128, into: &mut [f32; 8]) {
        const { assert!(HALF < 2, "two halves") }
        // SAFETY: sixteen bytes from there on are its own, and the instruction takes any alignment.
        unsafe { v128_store(into.as_mut_ptr().add(4 * HALF).cast(), lanes) }
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    pub(crate) fn multiply_add(sum: v128, a: v128, b: v128) -> v128 {
        f32x4_add(sum, f32x4_mul(a, b))
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod plain {
    use std::array::from_fn;

    #[inline(always)]
    pub(crate) fn splat(value: f32) -> [f32; 4] {
        [value; 4]
    }

    /// The first half of eight, or the second.
    #[inline(always)]
    pub(crate) fn load<const HALF: usize>(values: &[f32; 8]) -> [f32; 4] {
        from_fn(|i| values[4 * HALF + i])
    }

    #[inline(always)]
    pub(crate) fn store<const HALF: usize>(lanes: [f32; 4], into: &mut [f32; 8]) {
        into[4 * HALF..4 * HALF + 4].copy_from_slice(&lanes);
    }

    #[inline(always)]
    pub(crate) fn multiply_add(sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| sum[i] + a[i] * b[i])
    }
}
