//! The quantile function of the Beta(0.6, 0.6) distribution, which `use_beta_sigmas` spaces steps by.

/// Both shape parameters ("Beta Sampling is All You Need", 2024).
const SHAPE: f64 = 0.6;

/// The x in [0, 1] below which Beta(0.6, 0.6) has probability `p`.
pub(super) fn quantile(p: f64) -> f64 {
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
