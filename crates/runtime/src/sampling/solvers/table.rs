//! What a solver returns: one row of coefficients for each model evaluation, and the noise levels it leads between.

/// A noise level: a sample there is α·clean + σ·noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Share of the clean signal.
    pub alpha: f64,
    /// Share of the noise.
    pub sigma: f64,
}

impl Point {
    /// No noise at all.
    pub const CLEAN: Self = Self { alpha: 1.0, sigma: 0.0 };

    /// A level of rectified flow, a straight line from clean to noise.
    pub const fn flow(sigma: f64) -> Self {
        Self { alpha: 1.0 - sigma, sigma }
    }

    /// A level that preserves variance, of the cumulated product ᾱ.
    pub fn of_product(alpha_bar: f64) -> Self {
        Self { alpha: libm::sqrt(alpha_bar), sigma: libm::sqrt(1.0 - alpha_bar) }
    }

    /// A level that preserves variance, of the ratio σ/α.
    pub fn of_ratio(ratio: f64) -> Self {
        let alpha = 1.0 / libm::sqrt(ratio * ratio + 1.0);
        Self { alpha, sigma: ratio * alpha }
    }

    /// σ/α, which grows with the noise.
    pub fn ratio(self) -> f64 {
        self.sigma / self.alpha
    }

    /// ln(α/σ), half the logarithm of the signal-to-noise ratio.
    pub fn lambda(self) -> f64 {
        libm::log(self.alpha) - libm::log(self.sigma)
    }
}

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise ε.
    Epsilon,
    /// The clean sample.
    Sample,
    /// v = α·ε − σ·clean (arXiv 2202.00512, appendix D).
    Velocity,
    /// ε − clean, the velocity of rectified flow.
    Flow,
}

/// One model evaluation and where the sample goes after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// What the model is told.
    pub timestep: f32,
    /// The level of the sample.
    pub from: Point,
    /// The level it is led to.
    pub to: Point,
    /// What the model's output means.
    pub prediction: Prediction,
}

impl Interval {
    /// The clean sample as factors of sample and output.
    pub fn clean(&self) -> [f64; 2] {
        let Point { alpha, sigma } = self.from;
        match self.prediction {
            Prediction::Epsilon => [1.0 / alpha, -sigma / alpha],
            Prediction::Sample => [0.0, 1.0],
            Prediction::Velocity => [alpha, -sigma],
            Prediction::Flow => [1.0, -sigma],
        }
    }

    /// The noise as factors of sample and output.
    pub fn epsilon(&self) -> [f64; 2] {
        let Point { alpha, sigma } = self.from;
        match self.prediction {
            Prediction::Epsilon => [0.0, 1.0],
            Prediction::Sample => [1.0 / sigma, -alpha / sigma],
            Prediction::Velocity => [sigma, alpha],
            Prediction::Flow => [1.0, alpha],
        }
    }
}

/// History states a row can refer to: clean samples that were predicted one, two and three steps ago.
pub const MAX_HISTORY: usize = 3;

/// The update of one step, over the sample x, the model's output, the clean sample they predict, earlier such
/// predictions, and fresh noise:
///
/// `clean = clamp(clean_of · (x, output), ±limit)`,
/// `x ← x·x + output·output + clean·clean + Σ history[k]·clean₋ₖ + noise·amplitude·fresh`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Factor of the sample.
    pub x: f64,
    /// Factor of the model's output.
    pub output: f64,
    /// Factor of the clamped clean sample.
    pub clean: f64,
    /// Factor of fresh noise.
    pub noise: f64,
    /// Factors of the clean samples of earlier steps, the latest first.
    pub history: [f64; MAX_HISTORY],
    /// Largest magnitude of the clean sample.
    pub limit: f64,
    /// The clean sample as factors of sample and output.
    pub clean_of: [f64; 2],
    /// The amplitude of [`Variance::Range`] is exp(a·v + b) of the predicted v.
    pub log_amplitude: [f64; 2],
}

/// Where the amplitude of fresh noise comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variance {
    /// The row alone.
    #[default]
    Fixed,
    /// Its square is the second half of the model's output (`learned`).
    Learned,
    /// The second half of the output says where it lies between two bounds (`learned_range`, arXiv 2102.09672 §3.1).
    Range,
}

impl Row {
    /// Values of a row as the kernel reads it.
    pub const LEN: usize = 12;

    /// The sample stays.
    pub const STAY: Self = Self {
        x: 1.0,
        output: 0.0,
        clean: 0.0,
        noise: 0.0,
        history: [0.0; MAX_HISTORY],
        limit: f64::INFINITY,
        clean_of: [1.0, 0.0],
        log_amplitude: [0.0; 2],
    };

    /// x·sample + clean·(the clean sample), clamped if there is a limit, else written as factors of sample and output.
    pub fn new(interval: &Interval, x: f64, clean: f64, limit: Option<f64>) -> Self {
        let clean_of = interval.clean();
        let start = Self { x, output: 0.0, clean_of, ..Self::STAY };
        match limit {
            Some(limit) => Self { clean, limit, ..start },
            None => start.plus(clean, clean_of),
        }
    }

    /// With `factor` of what is itself factors of sample and output.
    #[must_use]
    pub fn plus(self, factor: f64, [x, output]: [f64; 2]) -> Self {
        Self { x: self.x + factor * x, output: self.output + factor * output, ..self }
    }

    /// As the kernel reads it: x, output, clean, noise; history, limit; clean sample, amplitude.
    pub fn packed(&self) -> [f32; Self::LEN] {
        let ([h1, h2, h3], [cx, co], [a, b]) = (self.history, self.clean_of, self.log_amplitude);
        // Shaders may take infinity for impossible.
        let limit = self.limit.min(f64::from(f32::MAX));
        [self.x, self.output, self.clean, self.noise, h1, h2, h3, limit, cx, co, a, b].map(|v| v as f32)
    }
}
