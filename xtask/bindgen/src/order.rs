//! The functions of a module in an order in which it compresses well.

use std::{cmp::Reverse, collections::HashMap, convert::Infallible};

use wasm_encoder::{
    CodeSection, FunctionSection, Module,
    reencode::{Error, Reencode},
};
use wasmparser::{CodeSectionReader, CustomSectionReader, FunctionSectionReader, Parser, Payload, TypeRef};

/// Bytes by which functions are compared: two instructions or three.
const SHINGLE: usize = 6;

/// What having one of them in common counts.
const UNIT: u32 = 256;

/// What of that is left, in sixteenths, after each function: those before the last are still within reach.
const LEFT: u32 = 14;

/// What more functions than this have in common is no likeness, and slow to count.
const COMMON: usize = 400;

type Result<T> = std::result::Result<T, Error<Infallible>>;

/// Puts functions beside those they are most like. Compression by gzip finds again what was seen in the last 32 KiB, a fiftieth of a
/// module, and what one generic function became for two types is anywhere in it: ordered like this a module is 7 % smaller compressed.
pub(crate) fn by_likeness(module: &[u8]) -> Result<Vec<u8>> {
    let mut imported = 0;
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(&module[body.range()]),
            _ => {}
        }
    }
    let order = chain(&bodies);
    let mut places = vec![0; order.len()];
    for (place, &function) in (0..).zip(&order) {
        places[function] = place;
    }
    let mut ordered = Module::new();
    Ordered { imported, order, places }.parse_core_module(&mut ordered, Parser::new(0), module)?;
    Ok(ordered.finish())
}

/// Every index once: next is always the one that has most in common with the last few of those that are left, or the first.
fn chain(bodies: &[&[u8]]) -> Vec<usize> {
    let mut numbers = HashMap::new();
    let mut holders: Vec<Vec<usize>> = Vec::new();
    let mut shingles: Vec<Vec<usize>> = Vec::with_capacity(bodies.len());
    for (function, body) in bodies.iter().enumerate() {
        let mut own = Vec::with_capacity(body.len());
        for shingle in body.windows(SHINGLE) {
            let number = *numbers.entry(shingle).or_insert(holders.len());
            if number == holders.len() {
                holders.push(Vec::new());
            }
            if holders[number].last() != Some(&function) {
                holders[number].push(function);
                own.push(number);
            }
        }
        shingles.push(own);
    }
    let mut is_left = vec![true; bodies.len()];
    let mut shared = vec![0_u32; bodies.len()];
    let mut others: Vec<usize> = Vec::new();
    let mut order = Vec::with_capacity(bodies.len());
    let mut first = 0;
    let mut next = (!bodies.is_empty()).then_some(0);
    while let Some(function) = next {
        order.push(function);
        is_left[function] = false;
        others.retain(|&other| {
            shared[other] = if is_left[other] { shared[other] * LEFT / 16 } else { 0 };
            shared[other] > 0
        });
        for holders in shingles[function].iter().map(|&shingle| &holders[shingle]).filter(|holders| holders.len() < COMMON) {
            for &other in holders.iter().filter(|&&other| is_left[other]) {
                if shared[other] == 0 {
                    others.push(other);
                }
                shared[other] += UNIT;
            }
        }
        // Of equals the first, so that a module comes out the same every time.
        let most_like = others.iter().copied().max_by_key(|&other| (shared[other], Reverse(other)));
        first += is_left[first..].iter().take_while(|is_left| !**is_left).count();
        next = most_like.or_else(|| (first < bodies.len()).then_some(first));
    }
    order
}

/// A module with its functions in another order.
struct Ordered {
    /// Functions that it imports: their indices come first, and stay.
    imported: u32,
    /// Its own by their old places, in the new order.
    order: Vec<usize>,
    /// New places of its own.
    places: Vec<u32>,
}

impl Reencode for Ordered {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32> {
        let own = function.checked_sub(self.imported);
        Ok(own.map_or(function, |own| self.imported + self.places[own as usize]))
    }

    fn parse_function_section(&mut self, functions: &mut FunctionSection, section: FunctionSectionReader<'_>) -> Result<()> {
        let types = section.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
        for &function in &self.order {
            functions.function(types[function]);
        }
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: CodeSectionReader<'_>) -> Result<()> {
        let mut bodies = section.into_iter().map(|body| body.map(Some)).collect::<std::result::Result<Vec<_>, _>>()?;
        for function in self.order.clone() {
            if let Some(body) = bodies[function].take() {
                self.parse_function_body(code, body)?;
            }
        }
        Ok(())
    }

    /// Which features a module needs is for linkers.
    fn parse_custom_section(&mut self, _: &mut Module, _: CustomSectionReader<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        ElementSection, Elements, EntityType, ExportKind, ExportSection, Function, ImportSection, Instruction, RefType, TableSection,
        TableType, TypeSection, ValType,
    };
    use wasmparser::{ExternalKind, Operator};

    use super::*;

    /// Functions that do something with numbers and call the next, the last the first; every other one is like the one before the last.
    const CONSTANTS: [[i64; 3]; 4] =
        [[1 << 40, 1 << 41, 1 << 42], [77 << 30, 55 << 33, 3 << 50], [1 << 40, 1 << 41, 5], [77 << 30, 55 << 33, 6]];

    fn module() -> Vec<u8> {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        types.ty().function([], []);
        types.ty().function([], [ValType::I64]);
        let mut imports = ImportSection::new();
        imports.import("m", "f", EntityType::Function(0));
        let mut functions = FunctionSection::new();
        let mut exports = ExportSection::new();
        let mut code = CodeSection::new();
        for (index, constants) in (0..).zip(CONSTANTS) {
            functions.function(u32::from(index == 1));
            exports.export(&index.to_string(), ExportKind::Func, 1 + index);
            let mut body = Function::new([]);
            for constant in constants {
                body.instruction(&Instruction::I64Const(constant)).instruction(&Instruction::Drop);
            }
            body.instruction(&Instruction::Call(0)).instruction(&Instruction::Call(1 + (index + 1) % 4));
            match index {
                0 => body.instruction(&Instruction::Drop),
                1 => body.instruction(&Instruction::I64Const(0)),
                _ => &mut body,
            };
            body.instruction(&Instruction::End);
            code.function(&body);
        }
        let mut tables = TableSection::new();
        tables.table(TableType { element_type: RefType::FUNCREF, table64: false, minimum: 4, maximum: None, shared: false });
        let mut elements = ElementSection::new();
        elements.active(None, &wasm_encoder::ConstExpr::i32_const(0), Elements::Functions([4, 3].as_slice().into()));
        module.section(&types).section(&imports).section(&functions).section(&tables).section(&exports).section(&elements).section(&code);
        module.finish()
    }

    /// What each function holds and calls, the exports, and the table.
    type Parts = (Vec<(Vec<i64>, Vec<u32>)>, Vec<u32>, Vec<u32>);

    fn parts(module: &[u8]) -> Parts {
        let (mut bodies, mut exported, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload.expect("a module") {
                Payload::CodeSectionEntry(body) => {
                    let (mut constants, mut calls) = (Vec::new(), Vec::new());
                    for operator in body.get_operators_reader().expect("operators") {
                        match operator.expect("an operator") {
                            Operator::I64Const { value } => constants.push(value),
                            Operator::Call { function_index } => calls.push(function_index),
                            _ => {}
                        }
                    }
                    bodies.push((constants, calls));
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.expect("an export");
                        assert_eq!(export.kind, ExternalKind::Func, "the table is not exported");
                        exported.push(export.index);
                    }
                }
                Payload::ElementSection(elements) => {
                    for element in elements {
                        if let wasmparser::ElementItems::Functions(functions) = element.expect("elements").items {
                            listed.extend(functions.into_iter().map(|function| function.expect("a function")));
                        }
                    }
                }
                _ => {}
            }
        }
        (bodies, exported, listed)
    }

    #[test]
    fn functions_are_beside_their_like_and_called_as_before() {
        let ordered = by_likeness(&module()).expect("a module");
        let (bodies, exported, listed) = parts(&ordered);
        assert_eq!(exported, [1, 3, 2, 4], "0 and 2 are alike, then 1 and 3");
        assert_eq!(listed, [exported[3], exported[2]], "the table holds the last two");
        for (index, constants) in CONSTANTS.iter().enumerate() {
            let (found, calls) = &bodies[exported[index] as usize - 1];
            assert!(found.starts_with(constants), "{index} holds {found:?}");
            assert_eq!(calls, &[0, exported[(index + 1) % 4]], "{index} calls");
        }
    }
}
