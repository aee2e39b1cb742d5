//! Turns the WESL sources of `shaders/` into plain WGSL and the Rust types that drive it.
//!
//! One call from a build script, [`write()`], does for every row of `variants.toml`: link with WESL
//! (`link`), parse and validate with naga and read the interface back (`reflect`), check the
//! house rules (`lint`), and write the Rust module of the kernel (`emit`). Nothing of this crate
//! reaches the program that runs: what ships is WGSL text.
//!
//! Every problem found in every variant is reported at once.

mod emit;
mod link;
mod lint;
mod reflect;
mod table;

use std::path::Path;
use std::{fmt, fs, io};

use reflect::Interface;
use table::{Need, Row, Selection};

/// What the program is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An operating system, on adapters with any features.
    Native,
    /// A browser, where wgpu cannot ask for the features that some variants need: their texts are left out.
    Browser,
}

impl Target {
    fn runs(self, variant: &Linked) -> bool {
        self == Self::Native || variant.needs.is_empty()
    }
}

/// One linked, valid variant of a kernel.
struct Linked {
    /// Kernel and variant, e.g. `gemm_lanes[f16,bias]`.
    label: String,
    /// Name of the WGSL file in the output folder, e.g. `gemm_lanes.f16.bias.wgsl`.
    file: String,
    wgsl: String,
    interface: Interface,
    needs: Vec<Need>,
}

/// A kernel: a row of the table with all of its variants, in the order of its axes.
struct Kernel<'a> {
    row: &'a Row,
    variants: Vec<Linked>,
}

/// What the shaders turn into; written to disk by [`write()`].
#[derive(Debug)]
pub struct Generated {
    /// Rust source to be included in the module that defines `crate::kernel::{Kernel, Access}`.
    pub rust: String,
    /// Linked WGSL: file name and text, for people; `rust` holds the same lines.
    pub wgsl: Vec<(String, String)>,
}

/// Everything that is wrong with the shaders.
#[derive(Debug)]
#[non_exhaustive]
pub struct Error {
    /// One message per problem, each starting with the kernel and variant or the file.
    pub problems: Vec<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} problem(s) in the shaders:", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "- {problem}"))
    }
}

impl std::error::Error for Error {}

impl Error {
    fn one(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }

    fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        Self::one(format!("cannot {action} {}: {error}", path.display()))
    }
}

/// Links, validates, reflects and lints every variant in `shaders/variants.toml`, and writes those that `target` runs.
///
/// # Errors
///
/// All problems of all kernels, in the order of the table.
pub fn generate(shaders: &Path, target: Target) -> Result<Generated, Error> {
    let table_path = shaders.join("variants.toml");
    let text = fs::read_to_string(&table_path).map_err(|e| Error::io("read", &table_path, &e))?;
    let rows = table::parse(&text)?;

    let mut problems = lint::library(shaders)?;
    let mut kernels = Vec::new();
    for row in &rows {
        match build(shaders, row, &table::features(&rows)) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => problems.extend(error.problems),
        }
    }
    if !problems.is_empty() {
        return Err(Error { problems });
    }
    let rust = emit::emit(&kernels, target);
    let wgsl = kernels.into_iter().flat_map(|k| k.variants).filter(|v| target.runs(v)).map(|v| (v.file, v.wgsl)).collect();
    Ok(Generated { rust, wgsl })
}

/// Runs [`generate`] and writes `kernels.rs` and `wgsl/*.wgsl` below `out`.
///
/// The linked text stays readable there when a driver or naga complains about a line of it.
///
/// # Errors
///
/// As [`generate`], or a file that cannot be written.
pub fn write(shaders: &Path, out: &Path, target: Target) -> Result<(), Error> {
    let generated = generate(shaders, target)?;
    let folder = out.join("wgsl");
    // Files of variants that no longer exist must not linger.
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|e| Error::io("remove", &folder, &e))?;
    }
    fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, &e))?;
    for (name, text) in &generated.wgsl {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|e| Error::io("write", &path, &e))?;
    }
    let path = out.join("kernels.rs");
    fs::write(&path, &generated.rust).map_err(|e| Error::io("write", &path, &e))
}

fn build<'a>(shaders: &Path, row: &'a Row, features: &[&str]) -> Result<Kernel<'a>, Error> {
    let path = shaders.join(format!("{}.wesl", row.path));
    let source = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
    let mut problems = lint::source(&row.path, &source);
    let mut variants: Vec<Linked> = Vec::new();
    for selection in row.selections() {
        match build_variant(shaders, row, &selection, features) {
            Ok(linked) => variants.push(linked),
            Err(error) => problems.extend(error.problems),
        }
    }
    if problems.is_empty() {
        problems.extend(lint::across_variants(row, &variants));
    }
    if problems.is_empty() { Ok(Kernel { row, variants }) } else { Err(Error { problems }) }
}

fn build_variant(shaders: &Path, row: &Row, selection: &Selection<'_>, features: &[&str]) -> Result<Linked, Error> {
    let label = selection.label(row);
    let wgsl = link::link(shaders, row, selection, features).map_err(|message| Error::one(format!("{label}: does not link: {message}")))?;
    let needs = selection.needs(row);
    let interface = reflect::reflect(&wgsl, &needs)
        .map_err(|problems| Error { problems: problems.into_iter().map(|p| format!("{label}: {p}")).collect() })?;
    let problems = lint::interface(&interface);
    if problems.is_empty() {
        Ok(Linked { file: selection.file(row), label, wgsl, interface, needs })
    } else {
        Err(Error { problems: problems.into_iter().map(|p| format!("{label}: {p}")).collect() })
    }
}
