//! Solvers of the sampling equations as tables of coefficients: pure functions from noise levels to what each step adds
//! up. Adding one is a file here and a line in [`SOLVERS`].

mod ddim;
mod ddpm;
mod diffusion;
mod dmd;
mod dpm_cogvideox;
mod dpmpp;
mod euler;
mod file;
mod flow_euler;
mod flow_map;
mod lcm;
mod multistep;
mod rcm;
pub mod table;
mod unipc;

pub use file::SchedulerFile;
use table::{Interval, Row, Variance};

use super::schedule::{Levels, Schedule, request};
use crate::error::{Error, Result};

/// A way from noise to a clean sample.
pub trait Solver: std::fmt::Debug + Send + Sync {
    /// The levels of a run; `mu` is needed where the shift depends on the number of tokens.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for levels it cannot take.
    fn schedule(&self, levels: &Levels, mu: Option<f64>) -> Result<Schedule>;

    /// The update of each of `intervals`, which are all that a token goes through.
    fn rows(&self, intervals: &[Interval]) -> Vec<Row>;

    /// How many earlier predictions rows refer to.
    fn history(&self) -> usize {
        0
    }

    /// Whether rows add fresh noise.
    fn takes_noise(&self) -> bool {
        false
    }

    /// Where the amplitude of fresh noise comes from.
    fn variance(&self) -> Variance {
        Variance::Fixed
    }

    /// `mu` of a clip of so many tokens, if the shift depends on it.
    fn mu(&self, _tokens: usize) -> Option<f64> {
        None
    }

    /// The same with another share of fresh noise (η of arXiv 2010.02502, eq. 16), if there is such a choice.
    fn with_eta(&self, _eta: f64) -> Option<Box<dyn Solver>> {
        None
    }
}

/// One solver of the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// What `--sampler` calls it.
    pub name: &'static str,
    /// The class in `scheduler_config.json`.
    pub class: &'static str,
    /// Whether it steps along straight flows, along diffusion, or (if none) along both.
    flow: Option<bool>,
    build: fn(&SchedulerFile) -> Result<Box<dyn Solver>>,
}

/// All of them.
pub const SOLVERS: &[Entry] = &[
    flow_euler::ENTRY,
    unipc::ENTRY,
    dpmpp::ENTRY,
    ddim::ENTRY,
    ddim::COGVIDEOX,
    dpm_cogvideox::ENTRY,
    ddpm::ENTRY,
    lcm::ENTRY,
    euler::ENTRY,
    dmd::ENTRY,
    rcm::ENTRY,
    flow_map::ENTRY,
];

/// The solver that `file` names.
///
/// # Errors
/// [`Error::UnknownClass`], [`Error::InvalidConfig`].
pub fn of_file(file: &SchedulerFile) -> Result<Box<dyn Solver>> {
    let class = file.class_name.as_deref().unwrap_or(flow_euler::ENTRY.class);
    let Some(entry) = SOLVERS.iter().find(|entry| entry.class == class) else {
        let known = SOLVERS.iter().map(|entry| entry.class).collect::<Vec<_>>().join(", ");
        return Err(Error::UnknownClass { class: class.into(), file: file.file.clone(), known });
    };
    (entry.build)(file)
}

/// Whether `file` itself names the solver called `name`.
pub fn is_of_file(name: &str, file: &SchedulerFile) -> bool {
    let class = file.class_name.as_deref().unwrap_or(flow_euler::ENTRY.class);
    SOLVERS.iter().any(|entry| entry.class == class && entry.name == name)
}

/// The solver called `name`, for a model whose levels and prediction `file` describes.
///
/// # Errors
/// [`Error::InvalidRequest`] for a name that no solver has, or none that suits such a model; [`Error::InvalidConfig`].
pub fn by_name(name: &str, file: &SchedulerFile) -> Result<Box<dyn Solver>> {
    let fits = |entry: &&Entry| entry.flow.is_none_or(|flow| flow == file.is_flow());
    match SOLVERS.iter().filter(fits).find(|entry| entry.name == name) {
        Some(entry) => (entry.build)(file),
        None => {
            let kind = if file.is_flow() { "a flow" } else { "diffusion" };
            let known: Vec<&str> = SOLVERS.iter().filter(fits).map(|entry| entry.name).collect();
            Err(request("sampler", name.into(), &format!("one for {kind}: {}", known.join(", "))))
        }
    }
}

/// The number of steps, where a solver takes nothing else.
fn steps(levels: &Levels, most: usize) -> Result<usize> {
    match levels {
        Levels::Steps(n) if (1..=most).contains(n) => Ok(*n),
        Levels::Steps(n) => Err(request("steps", n.to_string(), &format!("1 to {most}"))),
        other => Err(request("levels", format!("{other:?}"), "a number of steps, which is all this solver takes")),
    }
}

/// Training timesteps that are given, noisiest first.
fn given_timesteps(timesteps: &[f32], train: usize) -> Result<Vec<usize>> {
    let whole = |t: &f32| t.fract() == 0.0 && (0.0..train as f32).contains(t);
    if timesteps.is_empty() || !timesteps.iter().all(whole) || timesteps.windows(2).any(|pair| pair[1] >= pair[0]) {
        return Err(request("timesteps", format!("{timesteps:?}"), &format!("falling whole numbers from 0 to {}", train - 1)));
    }
    Ok(timesteps.iter().map(|t| *t as usize).collect())
}
