//! Validation by naga and the interface of a linked kernel.

use naga::valid::{Capabilities, GlobalUse, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};

use crate::table::Need;

/// What the host has to know of a linked kernel, and what the lints check.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) entry_points: Vec<String>,
    pub(crate) workgroup: [u32; 3],
    pub(crate) workgroup_bytes: u32,
    /// All resources, ordered by group and binding.
    pub(crate) bindings: Vec<Binding>,
    pub(crate) params: Vec<Field>,
    /// Size of `Params` in the uniform buffer.
    pub(crate) params_bytes: u32,
}

#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) name: String,
    pub(crate) group: u32,
    pub(crate) index: u32,
    pub(crate) access: Access,
    pub(crate) used: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Uniform,
    Read,
    ReadWrite,
}

/// One member of `Params`.
#[derive(Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Rust type with the same bytes.
    pub(crate) rust: &'static str,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    pub(crate) read: bool,
}

/// Parses and validates `wgsl` without any optional capability but those it needs, then reads its interface.
pub(crate) fn reflect(wgsl: &str, needs: &[Need]) -> Result<Interface, Vec<String>> {
    // naga counts `unpack2x16float`, which is core WGSL, as a capability.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    for need in needs {
        capabilities |= match need {
            Need::Subgroups => Capabilities::SUBGROUP,
            Need::Integers64 => Capabilities::SHADER_INT64,
            Need::Native => Capabilities::empty(),
        };
    }
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| vec![format!("is not valid WGSL: {}", e.emit_to_string(wgsl))])?;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| vec![format!("is rejected by naga: {}", e.emit_to_string(wgsl))])?;

    let mut problems = Vec::new();
    let mut interface = Interface {
        entry_points: Vec::new(),
        workgroup: [0; 3],
        workgroup_bytes: 0,
        bindings: Vec::new(),
        params: Vec::new(),
        params_bytes: 0,
    };
    for entry in module.entry_points.iter().filter(|entry| entry.stage == ShaderStage::Compute) {
        interface.entry_points.push(entry.name.clone());
        interface.workgroup = entry.workgroup_size;
    }
    for (handle, variable) in module.global_variables.iter() {
        let name = variable.name.clone().unwrap_or_default();
        let access = match variable.space {
            AddressSpace::WorkGroup => {
                interface.workgroup_bytes += module.types[variable.ty].inner.size(module.to_ctx());
                continue;
            }
            AddressSpace::Uniform => Access::Uniform,
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Access::ReadWrite,
            AddressSpace::Storage { .. } => Access::Read,
            _ => continue,
        };
        let Some(at) = &variable.binding else { continue };
        let used = (0..module.entry_points.len()).any(|i| info.get_entry_point(i)[handle] != GlobalUse::empty());
        if access == Access::Uniform {
            match params(&module, handle) {
                Ok((fields, bytes)) => (interface.params, interface.params_bytes) = (fields, bytes),
                Err(problem) => problems.push(problem),
            }
        }
        interface.bindings.push(Binding { name, group: at.group, index: at.binding, access, used });
    }
    interface.bindings.sort_by_key(|b| (b.group, b.index));
    if problems.is_empty() { Ok(interface) } else { Err(problems) }
}

fn params(module: &Module, variable: naga::Handle<naga::GlobalVariable>) -> Result<(Vec<Field>, u32), String> {
    let ty = &module.types[module.global_variables[variable].ty];
    let TypeInner::Struct { members, span } = &ty.inner else {
        return Err("the uniform is no struct; expected `struct Params`".to_owned());
    };
    if ty.name.as_deref() != Some("Params") {
        return Err(format!("the uniform's type is `{}`, expected `Params`", ty.name.as_deref().unwrap_or("?")));
    }
    let read = fields_read(module, variable, members.len());
    let fields = members.iter().zip(read).map(|(member, read)| {
        let name = member.name.clone().unwrap_or_default();
        let (scalar, length) = match module.types[member.ty].inner {
            TypeInner::Scalar(scalar) => (scalar, 1),
            TypeInner::Vector { size, scalar } => (scalar, size as u32),
            _ => return Err(format!("Params.{name} is neither a scalar nor a vector")),
        };
        let rust = match (scalar.kind, length) {
            (ScalarKind::Uint, 1) => "u32",
            (ScalarKind::Sint, 1) => "i32",
            (ScalarKind::Float, 1) => "f32",
            (ScalarKind::Uint, 2) => "[u32; 2]",
            (ScalarKind::Sint, 2) => "[i32; 2]",
            (ScalarKind::Float, 2) => "[f32; 2]",
            (ScalarKind::Uint, 4) => "[u32; 4]",
            (ScalarKind::Sint, 4) => "[i32; 4]",
            (ScalarKind::Float, 4) => "[f32; 4]",
            _ => {
                return Err(format!(
                    "Params.{name} has a type the host does not mirror; \
                     use u32, i32, f32 or vectors of 2 or 4 of them"
                ));
            }
        };
        Ok(Field { name, rust, offset: member.offset, bytes: 4 * length, read })
    });
    Ok((fields.collect::<Result<_, _>>()?, *span))
}

/// Which members of the uniform some function reads; loading the struct whole reads them all.
fn fields_read(module: &Module, variable: naga::Handle<naga::GlobalVariable>, count: usize) -> Vec<bool> {
    let mut read = vec![false; count];
    let functions = module.functions.iter().map(|(_, function)| function);
    for function in functions.chain(module.entry_points.iter().map(|entry| &entry.function)) {
        let is_params = |handle| matches!(function.expressions[handle], Expression::GlobalVariable(global) if global == variable);
        for (_, expression) in function.expressions.iter() {
            match *expression {
                Expression::AccessIndex { base, index } if is_params(base) => read[index as usize] = true,
                Expression::Load { pointer } if is_params(pointer) => read.fill(true),
                _ => {}
            }
        }
    }
    read
}
