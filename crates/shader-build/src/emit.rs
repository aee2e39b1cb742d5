//! The Rust side of the kernels: one module each.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::reflect::{Access, Interface};
use crate::table::{Axis, Values};
use crate::{Kernel, Target};

/// The distinct lines of all texts. Variants of a kernel differ in a few lines, so that a text is stored as the numbers of
/// its lines: a tenth of the bytes, in a program that a page downloads.
#[derive(Default)]
pub(crate) struct Lines<'a> {
    text: Vec<&'a str>,
    numbers: HashMap<&'a str, usize>,
}

impl<'a> Lines<'a> {
    /// A text as numbers of lines.
    fn numbers(&mut self, text: &'a str) -> Vec<usize> {
        let number = |line| {
            *self.numbers.entry(line).or_insert_with(|| {
                self.text.push(line);
                self.text.len() - 1
            })
        };
        text.split('\n').map(number).collect()
    }
}

/// Rust source for all kernels, without the text of those that `target` cannot run. It expects `Kernel` and `Access` in `crate::kernel`.
pub(crate) fn emit(kernels: &[Kernel<'_>], target: Target) -> String {
    let mut out = String::from("// Generated from shaders/ by kinora-shader-build.\n");
    let mut lines = Lines::default();
    for kernel in kernels {
        // Writing to a String cannot fail.
        let _ = module(&mut out, kernel, target, &mut lines);
    }
    let _ = writeln!(out, "\n/// The distinct lines of all kernels.\npub static LINES: &str = {:?};", lines.text.join("\n"));
    let all: Vec<String> = kernels.iter().map(|kernel| format!("&{}::KERNELS", kernel.row.name())).collect();
    out + &format!("\n/// Every variant of every kernel.\npub static ALL: &[&[crate::kernel::Kernel]] = &[{}];\n", all.join(", "))
}

fn module<'a>(out: &mut String, kernel: &'a Kernel<'_>, target: Target, lines: &mut Lines<'a>) -> std::fmt::Result {
    let row = kernel.row;
    let Some(first) = kernel.variants.first() else { return Ok(()) };
    writeln!(out, "\n/// Kernel `shaders/{}.wesl`, where its bindings and grid are described.", row.path)?;
    writeln!(
        out,
        "#[allow(missing_docs, dead_code, reason = \"documented in the shader; not every item has a user\")]\n\
         pub mod {} {{\nuse crate::kernel::{{Access, Kernel}};",
        row.name()
    )?;
    for (name, value) in &row.constants {
        writeln!(out, "pub const {name}: u32 = {value};")?;
    }
    params(out, &first.interface)?;
    let axes = &row.axes;
    for axis in axes {
        axis_type(out, axis)?;
    }
    if axes.is_empty() {
        writeln!(out, "pub static KERNEL: &Kernel = &KERNELS[0];")?;
    } else {
        variant_type(out, axes)?;
    }
    writeln!(out, "pub static KERNELS: [Kernel; {}] = [", kernel.variants.len())?;
    for variant in &kernel.variants {
        let bindings: Vec<String> = variant.interface.bindings.iter().map(|b| format!("Access::{:?}", b.access)).collect();
        let text = if target.runs(variant) { lines.numbers(&variant.wgsl) } else { Vec::new() };
        let (label, workgroup) = (&variant.label, variant.interface.workgroup);
        writeln!(
            out,
            "Kernel {{ name: {label:?}, lines: &{text:?}, bindings: &[{}], workgroup: {workgroup:?}, range: core::mem::offset_of!(Params, first) }},",
            bindings.join(", ")
        )?;
    }
    writeln!(out, "];\n}}")
}

fn params(out: &mut String, interface: &Interface) -> std::fmt::Result {
    debug_assert!(interface.bindings.iter().any(|b| b.access == Access::Uniform), "checked by the lints");
    writeln!(
        out,
        "#[repr(C)]\n#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]\npub struct Params {{"
    )?;
    for field in &interface.params {
        writeln!(out, "pub {}: {},", field.name, field.rust)?;
    }
    writeln!(out, "}}\nconst _: () = assert!(size_of::<Params>() == {});", interface.params_bytes)?;
    for field in &interface.params {
        let (name, offset) = (&field.name, field.offset);
        writeln!(out, "const _: () = assert!(core::mem::offset_of!(Params, {name}) == {offset});")?;
    }
    writeln!(out, "const _: () = assert!(core::mem::offset_of!(Params, end) == core::mem::offset_of!(Params, first) + 4);")?;
    Ok(())
}

fn axis_type(out: &mut String, axis: &Axis) -> std::fmt::Result {
    let name = camel_case(&axis.name);
    let derive = "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]";
    match &axis.values {
        Values::Bool => Ok(()),
        Values::Text(values) => {
            let values: Vec<String> = values.iter().map(|v| camel_case(v)).collect();
            writeln!(out, "{derive}\npub enum {name} {{ {} }}", values.join(", "))
        }
        Values::Number(values) => {
            let names: Vec<String> = values.iter().map(|v| format!("N{v}")).collect();
            writeln!(out, "{derive}\npub enum {name} {{ {} }}\nimpl {name} {{", names.join(", "))?;
            writeln!(out, "pub const VALUES: &[u32] = &{values:?};")?;
            writeln!(out, "pub const fn new(value: u32) -> Option<Self> {{ match value {{")?;
            for value in values {
                writeln!(out, "{value} => Some(Self::N{value}),")?;
            }
            writeln!(out, "_ => None }} }}\n}}")
        }
    }
}

fn variant_type(out: &mut String, axes: &[Axis]) -> std::fmt::Result {
    writeln!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]\npub struct Variant {{")?;
    for axis in axes {
        let ty = if matches!(axis.values, Values::Bool) { "bool".to_owned() } else { camel_case(&axis.name) };
        writeln!(out, "pub {}: {ty},", axis.name)?;
    }
    // The last axis varies fastest, as in `Row::selections`.
    let digit = |axis: &Axis| format!("self.{} as usize", axis.name);
    let index = axes.iter().fold(String::new(), |index, axis| match index.as_str() {
        "" => digit(axis),
        _ => format!("({index}) * {} + {}", axis.values.len(), digit(axis)),
    });
    writeln!(out, "}}\nimpl Variant {{\npub fn kernel(self) -> &'static Kernel {{ &KERNELS[{index}] }}\n}}")
}

fn camel_case(snake: &str) -> String {
    snake
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
        })
        .collect()
}
