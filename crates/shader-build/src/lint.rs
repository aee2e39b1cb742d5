//! House rules for shaders that neither WGSL nor naga knows.

use std::fs;
use std::path::Path;

use crate::reflect::{Access, Interface};
use crate::table::Row;
use crate::{Error, Linked};

/// `maxComputeWorkgroupStorageSize` of every WebGPU device.
const MAX_WORKGROUP_BYTES: u32 = 16 * 1024;
/// `maxComputeInvocationsPerWorkgroup` of every WebGPU device.
const MAX_INVOCATIONS: u32 = 256;
/// `maxStorageBuffersPerShaderStage` of every WebGPU device.
const MAX_STORAGE_BUFFERS: usize = 8;

/// Largest number in a shader: its multiples overflow, and compilers with fast maths may assume that nothing does.
const MAX_LITERAL: f64 = 1e30;

/// Rules for one file of kernel source, which a reader must be able to follow without a linker.
pub(crate) fn source(path: &str, text: &str) -> Vec<String> {
    let mut problems = directives(path, text);
    problems.extend(literals(path, text));
    if !text.starts_with("//") {
        problems.push(format!("{path}.wesl: starts without a comment; say what the kernel computes"));
    }
    let mut depth = 0_i32;
    for (number, line) in text.lines().enumerate() {
        let (code, comment) = line.split_once("//").unwrap_or((line, ""));
        let at = || format!("{path}.wesl:{}", number + 1);
        if depth > 0 && ["@if", "@elif", "@else"].iter().any(|word| code.contains(word)) {
            problems.push(format!("{}: condition inside a body; conditions outside lib/ decorate whole declarations", at()));
        }
        if code.contains("var<storage") && comment.trim().is_empty() {
            problems.push(format!("{}: storage binding without a comment naming its shape", at()));
        }
        depth += code.matches('{').count() as i32 - code.matches('}').count() as i32;
    }
    problems
}

/// Rules for the shared files below `shaders/lib`.
pub(crate) fn library(shaders: &Path) -> Result<Vec<String>, Error> {
    let folder = shaders.join("lib");
    let mut problems = Vec::new();
    if !folder.exists() {
        return Ok(problems);
    }
    let entries = fs::read_dir(&folder).map_err(|e| Error::io("list", &folder, &e))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let path = format!("lib/{name}");
        problems.extend(directives(&path, &text).into_iter().chain(literals(&path, &text)));
    }
    Ok(problems)
}

/// Directives differ between naga and browsers, so none may appear: see shaders/README.md.
fn directives(path: &str, text: &str) -> Vec<String> {
    let is_directive = |line: &str| ["enable ", "requires ", "diagnostic("].iter().any(|word| line.trim_start().starts_with(word));
    text.lines()
        .enumerate()
        .filter(|(_, line)| is_directive(line))
        .map(|(number, line)| format!("{path}.wesl:{}: directive `{}`", number + 1, line.trim()))
        .collect()
}

fn literals(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split_once("//").map_or(line, |(code, _)| code);
        let words = code.split(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)));
        for word in words.filter_map(|word| word.trim_end_matches('f').parse::<f64>().ok().filter(|v| v.abs() > MAX_LITERAL).map(|_| word))
        {
            problems.push(format!("{path}.wesl:{}: {word} is beyond {MAX_LITERAL:e} and overflows when multiplied", number + 1));
        }
    }
    problems
}

/// Rules for the interface of one linked variant.
pub(crate) fn interface(interface: &Interface) -> Vec<String> {
    let mut problems = Vec::new();
    if interface.entry_points != ["main"] {
        problems.push(format!("entry points {:?}, expected one: `main`", interface.entry_points));
    }
    let invocations = interface.workgroup.iter().product::<u32>();
    if invocations > MAX_INVOCATIONS {
        problems.push(format!("{invocations} invocations per workgroup, at most {MAX_INVOCATIONS}"));
    }
    if interface.workgroup_bytes > MAX_WORKGROUP_BYTES {
        let bytes = interface.workgroup_bytes;
        problems.push(format!("{bytes} bytes of workgroup memory, at most {MAX_WORKGROUP_BYTES}"));
    }
    let expected = |i: usize| (0, i as u32);
    for (i, binding) in interface.bindings.iter().enumerate() {
        let name = &binding.name;
        if (binding.group, binding.index) != expected(i) {
            problems.push(format!(
                "`{name}` is at group {} binding {}, expected group 0 binding {i}: bindings are numbered without gaps",
                binding.group, binding.index
            ));
        }
        if (binding.access == Access::Uniform) != (i == 0) {
            problems.push(format!("`{name}` at binding {i}: binding 0, and only it, is the uniform Params"));
        }
        if !binding.used {
            problems.push(format!("binding `{name}` is never used"));
        }
    }
    let storage = interface.bindings.iter().filter(|b| b.access != Access::Uniform);
    let count = storage.clone().count();
    if count > MAX_STORAGE_BUFFERS {
        problems.push(format!("{count} storage buffers, at most {MAX_STORAGE_BUFFERS}"));
    }
    let writes: Vec<bool> = storage.map(|b| b.access == Access::ReadWrite).collect();
    if writes.iter().filter(|write| **write).count() != 1 || writes.last() != Some(&true) {
        problems.push("expected exactly one read_write binding, the output, after all inputs".to_owned());
    }
    let mut end = 0;
    for field in &interface.params {
        if field.offset != end {
            problems
                .push(format!("Params.{} starts at byte {}, the fields before it end at {end}: pad explicitly", field.name, field.offset));
        }
        end = field.offset + field.bytes;
    }
    if end != interface.params_bytes || end % 16 != 0 {
        problems.push(format!(
            "the fields of Params end at byte {end}, its size is {}; pad explicitly to a multiple of 16",
            interface.params_bytes
        ));
    }
    problems
}

/// Rules that need all variants of a kernel.
pub(crate) fn across_variants(row: &Row, variants: &[Linked]) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(first) = variants.first() else { return problems };
    let layout = |variant: &Linked| -> Vec<(String, &str)> { variant.interface.params.iter().map(|f| (f.name.clone(), f.rust)).collect() };
    for variant in variants {
        if layout(variant) != layout(first) {
            problems.push(format!("{}: Params differs from that of {}", variant.label, first.label));
        }
    }
    for (i, field) in first.interface.params.iter().enumerate() {
        let read = variants.iter().any(|v| v.interface.params.get(i).is_some_and(|f| f.read));
        if !read && !field.name.starts_with("pad") {
            problems.push(format!("{}: Params.{} is never read", row.path, field.name));
        }
    }
    problems
}
