//! The Rust side of the kernels: one module each.

use std::fmt::Write as _;

use crate::reflect::{Access, Interface};
use crate::table::{Axis, Values};
use crate::{Kernel, Target};

/// Rust source for all kernels, without the text of those that `target` cannot run. It expects `Kernel` and `Access` in `crate::kernel`.
pub(crate) fn emit(kernels: &[Kernel<'_>], target: Target) -> String {
    let mut out = String::from("// Generated from shaders/ by kinora-shader-build.\n");
    for kernel in kernels {
        // Writing to a String cannot fail.
        let _ = module(&mut out, kernel, target);
    }
    let all: Vec<String> = kernels.iter().map(|kernel| format!("&{}::KERNELS", kernel.row.name())).collect();
    out + &format!("\n/// Every variant of every kernel.\npub static ALL: &[&[crate::kernel::Kernel]] = &[{}];\n", all.join(", "))
}

fn module(out: &mut String, kernel: &Kernel<'_>, target: Target) -> std::fmt::Result {
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
        let source = if target.runs(variant) { format!("include_str!({:?})", format!("wgsl/{}", variant.file)) } else { "\"\"".into() };
        let (label, workgroup) = (&variant.label, variant.interface.workgroup);
        writeln!(
            out,
            "Kernel {{ name: {label:?}, source: {source}, bindings: &[{}], workgroup: {workgroup:?}, range: core::mem::offset_of!(Params, first) }},",
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
