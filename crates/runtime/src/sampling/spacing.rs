//! How noise levels lie between the first and the last: by Karras, evenly in their logarithm, by a Beta distribution.

use super::schedule::linspace;

/// A spacing of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly in the seventh root (arXiv 2206.00364, eq. 5).
    Karras,
    /// Evenly in the logarithm.
    Exponential,
    /// By quantiles of Beta(0.6, 0.6).
    Beta,
}

impl Spacing {
    /// The one of `use_karras_sigmas`, `use_exponential_sigmas` and `use_beta_sigmas` that is on; an error if several are.
    pub(super) fn of(flags: [bool; 3]) -> Result<Option<Self>, String> {
        let named = [Self::Karras, Self::Exponential, Self::Beta].into_iter().zip(flags);
        let on: Vec<Self> = named.filter(|(_, on)| *on).map(|(spacing, _)| spacing).collect();
        match on.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            _ => Err("at most one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas may be true".into()),
        }
    }

    /// `count` levels from `max` down to `min`.
    pub(super) fn levels(self, max: f64, min: f64, count: usize) -> Vec<f64> {
        const RHO: f64 = 7.0;
        let root = |s| libm::pow(s, 1.0 / RHO);
        let ramp = linspace(0.0, 1.0, count).into_iter();
        match self {
            Self::Karras => ramp.map(|u| libm::pow(root(max) + u * (root(min) - root(max)), RHO)).collect(),
            Self::Exponential => linspace(libm::log(max), libm::log(min), count).into_iter().map(libm::exp).collect(),
            Self::Beta => ramp.map(|u| min + quantile(1.0 - u) * (max - min)).collect(),
        }
    }
}

/// Both shape parameters ("Beta Sampling is All You Need", 2024).
const SHAPE: f64 = 0.6;

/// The x in [0, 1] below which Beta(0.6, 0.6) has probability `p`.
fn quantile(p: f64) -> f64 {
    if p > 0.5 {
        return 1.0 - quantile(1.0 - p);
    }
    // The distribution function rises steeply at 0, as x^0.6: bisect over x = u^(1/0.6), where it is smooth.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if lower_half(libm::pow(middle, 1.0 / SHAPE)) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    libm::pow(low, 1.0 / SHAPE)
}

/// Probability below `x`; exact for x ≤ 1/2, and beyond it large enough to steer the bisection.
fn lower_half(x: f64) -> f64 {
    if x > 0.5 {
        return 1.0;
    }
    // I_x(a, a) = x^a (1-x)^a / (a B(a, a)) · Σ_n Π_{k<n} (2a + k)/(a + 1 + k) · x^n  (DLMF 8.17.8).
    let (mut term, mut sum, mut n) = (1.0, 1.0, 0.0);
    while term > 1e-17 * sum {
        term *= x * (2.0 * SHAPE + n) / (SHAPE + 1.0 + n);
        sum += term;
        n += 1.0;
    }
    let log_beta = 2.0 * libm::lgamma(SHAPE) - libm::lgamma(2.0 * SHAPE);
    libm::exp(SHAPE * libm::log(x * (1.0 - x)) - log_beta) / SHAPE * sum
}

#[cfg(test)]
mod tests {
    use super::quantile;

    /// Values of `scipy.stats.beta.ppf(p, 0.6, 0.6)`, version 1.17.1.
    #[test]
    fn quantiles_match_scipy() {
        let expected = [
            (0.0, 0.0),
            (1e-6, 1.855_882_462_405_304_3e-10),
            (0.01, 0.000_861_238_821_542_905_9),
            (0.1, 0.039_584_405_588_780_85),
            (0.3, 0.234_017_003_875_235_72),
            (0.49, 0.486_128_914_278_159_9),
            (0.5, 0.5),
            (0.7, 0.765_982_996_124_764_3),
            (0.999, 0.999_981_441_261_482_6),
            (1.0, 1.0),
        ];
        for (p, x) in expected {
            assert!((quantile(p) - x).abs() < 1e-13, "p = {p}: {}", quantile(p));
        }
    }
}
