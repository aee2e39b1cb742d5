//! `cargo xtask new-kernel FOLDER/NAME`: the files of a kernel that multiplies by a factor, to be turned into
//! the real one. Everything works at once when the printed lines are added; the test is red until then.

use std::{fs, io::Write as _, path::Path};

use crate::shell::{Outcome, root};

const SHADER: &str = "\
// y[r, c] = factor · x[r, c].
// Shapes: x, y [R, C]. Items: 64 vectors of four each.
import package::lib::grid::{Invocation, work_item};

struct Params { vectors: u32, factor: f32, first: u32, end: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [R, C]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // [R, C]

@compute @workgroup_size(64)
fn main(invocation: Invocation) {
    let item = work_item(invocation, p.first);
    let i = item * 64u + invocation.lane;
    if item >= p.end || i >= p.vectors {
        return;
    }
    y[i] = p.factor * x[i];
}
";

const OPERATION: &str = "\
//! TITLE.

use crate::generated::NAME;
use crate::lower::Lowering;
use crate::op::Op;
use crate::plan::Elem;
use crate::tensor::Tensor;

impl Tensor<'_> {
    /// `factor · x`.
    ///
    /// | tensor | shape     | access |
    /// |--------|-----------|--------|
    /// | `self` | `[.., C]` | read   |
    /// | result | `[.., C]` | write  |
    #[track_caller]
    pub fn NAME(self, factor: f32) -> Self {
        self.need_contiguous(\"NAME\");
        self.plan().record(Op::TYPE { factor }, vec![self.operand()], self.shape(), Elem::F32)
    }
}

pub(super) fn lower_NAME(factor: f32, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let params = NAME::Params { vectors: vectors as u32, factor, ..Default::default() };
    let bindings = vec![cx.input(0), cx.output()];
    cx.dispatch(NAME::KERNEL, vectors.div_ceil(64), shape.elements() as f64, bindings, params);
}
";

const TWIN: &str = "\
//! Twin of `NAME`.

use super::{Operands, rows_mut};
use crate::shape::Shape;

pub(super) fn NAME(factor: f32, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    for (r, out) in rows_mut(y, shape).enumerate() {
        for (out, value) in out.iter_mut().zip(x.row(r)) {
            *out = (f64::from(factor) * f64::from(*value)) as f32;
        }
    }
}
";

const TEST: &str = "\
//! NAME against its twin, on every adapter and with both families.

mod support;

use kinora_kernels::{Cadence, Plan};
use support::assert_matches_twin;

#[test]
fn NAME_matches_its_twin_for_ragged_rows() {
    // One row, tails in every direction, and more work items than one grid dimension holds.
    for dims in [[1, 1], [1, 4], [3, 5], [65, 30], [70_000, 64]] {
        let plan = Plan::new();
        plan.output(\"y\", plan.input(\"x\", &dims, Cadence::Once).NAME(0.7));
        assert_matches_twin(&plan.finish().expect(\"valid\"), 1, &[]);
    }
}
";

pub(crate) fn new_kernel(arguments: &[String]) -> Outcome {
    let valid = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase()) && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let split = arguments.first().filter(|_| arguments.len() == 1).and_then(|path| path.split_once('/'));
    let Some((folder, name)) = split.filter(|(folder, name)| valid(folder) && valid(name)) else {
        return Err("expected one name like elementwise/scale_rows, in snake_case".into());
    };
    let filled = |template: &str| template.replace("TITLE", &title(name)).replace("TYPE", &type_name(name)).replace("NAME", name);
    let files = [
        (format!("shaders/{folder}/{name}.wesl"), SHADER.to_owned()),
        (format!("crates/kernels/src/ops/{name}.rs"), filled(OPERATION)),
        (format!("crates/kernels/src/reference/{name}.rs"), filled(TWIN)),
        (format!("crates/kernels/tests/{name}.rs"), filled(TEST)),
    ];
    if let Some((taken, _)) = files.iter().find(|(path, _)| root().join(path).exists()) {
        return Err(format!("{taken} already exists").into());
    }
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for (path, text) in &files {
        let path = root().join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| failed(&path, error))?;
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    let table = root().join("shaders/variants.toml");
    let mut row = fs::OpenOptions::new().append(true).open(&table).map_err(|error| failed(&table, error))?;
    write!(row, "\n[\"{folder}/{name}\"]\n").map_err(|error| failed(&table, error))?;

    println!("wrote");
    files.iter().for_each(|(path, _)| println!("  {path}"));
    println!("  shaders/variants.toml (one row)\n\nnow add");
    let kind = type_name(name);
    for (path, line) in [
        ("op.rs", format!("{kind} {{ factor: f32 }} in `Op`, with its formula and shapes, and its name where `Op` has one")),
        ("ops/mod.rs", format!("mod {name};")),
        ("ops/mod.rs", format!("&Op::{kind} {{ factor }} => {name}::lower_{name}(factor, cx),")),
        ("reference/mod.rs", format!("mod {name};")),
        ("reference/mod.rs", format!("&Op::{kind} {{ factor }} => {name}::{name}(factor, inputs, shape, y),")),
    ] {
        println!("  crates/kernels/src/{path}: {line}");
    }
    println!("\nthen: cargo test -p kinora-kernels --test {name}");
    Ok(())
}

/// `scale_rows` as a type: `ScaleRows`.
fn type_name(name: &str) -> String {
    name.split('_').map(capitalised).collect()
}

/// `scale_rows` as the start of a sentence: `Scale rows`.
fn title(name: &str) -> String {
    capitalised(&name.replace('_', " "))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_types_and_titles() {
        assert_eq!((type_name("scale_rows"), title("scale_rows")), ("ScaleRows".to_owned(), "Scale rows".to_owned()));
    }

    #[test]
    fn names_that_would_not_compile_are_refused() {
        for name in ["", "norm", "norm/", "/x", "norm/Rms", "norm/2d", "norm/a-b", "../x/y", "norm/rms/x"] {
            assert!(new_kernel(&[name.to_owned()]).is_err(), "`{name}` was accepted");
        }
        assert!(new_kernel(&[]).is_err(), "no name");
    }
}
