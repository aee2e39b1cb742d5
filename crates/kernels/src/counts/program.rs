//! A kernel as naga reads it, with what follows from its text alone.

use std::collections::HashSet;

use naga::valid::{Capabilities, FunctionInfo, ModuleInfo, ValidationFlags, Validator};
use naga::{BinaryOperator, Expression, Function, Handle, Module, Statement, TypeInner};

use super::value::{is_float, scalars};

pub(super) struct Program {
    pub(super) module: Module,
    pub(super) info: ModuleInfo,
}

impl Program {
    pub(super) fn parse(wgsl: &str) -> Self {
        let module = naga::front::wgsl::parse_str(wgsl).expect("the build has read it");
        let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module).expect("the build has validated it");
        Self { module, info }
    }

    /// The entry point, or another function.
    pub(super) fn function(&self, handle: Option<Handle<Function>>) -> (&Function, &FunctionInfo) {
        match handle {
            Some(handle) => (&self.module.functions[handle], &self.info[handle]),
            None => (&self.module.entry_points[0].function, self.info.get_entry_point(0)),
        }
    }

    pub(super) fn inner<'a>(&'a self, info: &'a FunctionInfo, handle: Handle<Expression>) -> &'a TypeInner {
        info[handle].ty.inner_with(&self.module.types)
    }

    /// The products of a function that become one operation with the sum around them.
    pub(super) fn fused(&self, handle: Option<Handle<Function>>) -> HashSet<Handle<Expression>> {
        let (function, info) = self.function(handle);
        let product = |h: Handle<Expression>| {
            let once = info[h].ref_count == 1 && is_float(self.inner(info, h));
            once && matches!(function.expressions[h], Expression::Binary { op: BinaryOperator::Multiply, .. })
        };
        let sums = function.expressions.iter().filter_map(|(_, expression)| match *expression {
            Expression::Binary { op: BinaryOperator::Add | BinaryOperator::Subtract, left, right } => {
                [right, left].into_iter().find(|side| product(*side))
            }
            _ => None,
        });
        sums.collect()
    }

    /// The most numbers that are needed later at any one point: variables, and what was computed and is used again. What an
    /// adapter keeps in registers, if its compiler neither computes twice nor shares a register between variables.
    pub(super) fn registers(&self, handle: Option<Handle<Function>>) -> u64 {
        let (function, info) = self.function(handle);
        let locals: u64 = function.local_variables.iter().map(|(_, v)| scalars(&self.module, &self.module.types[v.ty].inner)).sum();
        let mut order = Order::default();
        order.walk(function, &function.body);
        let mut live = vec![0i64; order.steps.len() + 1];
        for (at, step) in order.steps.iter().enumerate() {
            if let Step::Made(made) = step {
                let end = order.last_use.get(made.index()).copied().unwrap_or(at).max(at);
                let part = matches!(function.expressions[*made], Expression::AccessIndex { .. } | Expression::Swizzle { .. });
                let size = if part { 0 } else { scalars(&self.module, self.inner(info, *made)).cast_signed() };
                live[at] += size;
                live[end] -= size;
            }
        }
        let (mut now, mut most) = (0, 0);
        for (at, change) in live.iter().enumerate() {
            now += change;
            let inside = match order.steps.get(at) {
                Some(Step::Called(function)) => self.registers(Some(*function)),
                _ => 0,
            };
            most = most.max(now.cast_unsigned() + inside);
        }
        locals + most
    }
}

enum Step {
    Made(Handle<Expression>),
    Called(Handle<Function>),
    Other,
}

/// The steps of a function in the order of its text, and where each expression is used for the last time; in a loop, what
/// comes from before it is used until its end.
#[derive(Default)]
struct Order {
    steps: Vec<Step>,
    made: Vec<usize>,
    last_use: Vec<usize>,
}

impl Order {
    fn walk(&mut self, function: &Function, block: &[Statement]) {
        for statement in block {
            match statement {
                Statement::Emit(range) => {
                    for handle in range.clone() {
                        for operand in operands(&function.expressions[handle]) {
                            self.uses(operand);
                        }
                        self.makes(handle);
                    }
                }
                Statement::Block(block) => self.walk(function, block),
                Statement::If { condition, accept, reject } => {
                    self.uses(*condition);
                    self.walk(function, accept);
                    self.walk(function, reject);
                }
                Statement::Loop { body, continuing, break_if } => {
                    let begin = self.steps.len();
                    self.walk(function, body);
                    self.walk(function, continuing);
                    break_if.iter().for_each(|condition| self.uses(*condition));
                    let end = self.steps.len();
                    for (made, last) in self.made.iter().zip(&mut self.last_use) {
                        if *made < begin && *last >= begin {
                            *last = end;
                        }
                    }
                }
                Statement::Return { value } => value.iter().for_each(|value| self.uses(*value)),
                Statement::Store { pointer, value } => [*pointer, *value].into_iter().for_each(|h| self.uses(h)),
                Statement::Call { function, arguments, result } => {
                    arguments.iter().for_each(|argument| self.uses(*argument));
                    self.steps.push(Step::Called(*function));
                    result.iter().for_each(|result| self.makes(*result));
                }
                _ => {}
            }
            self.steps.push(Step::Other);
        }
    }

    fn uses(&mut self, handle: Handle<Expression>) {
        if let Some(last) = self.last_use.get_mut(handle.index()) {
            *last = self.steps.len();
        }
    }

    fn makes(&mut self, handle: Handle<Expression>) {
        let len = handle.index() + 1;
        if self.made.len() < len {
            self.made.resize(len, usize::MAX);
            self.last_use.resize(len, 0);
        }
        self.made[handle.index()] = self.steps.len();
        self.last_use[handle.index()] = self.steps.len();
        self.steps.push(Step::Made(handle));
    }
}

fn operands(expression: &Expression) -> Vec<Handle<Expression>> {
    match *expression {
        Expression::Compose { ref components, .. } => components.clone(),
        Expression::Access { base, index } => vec![base, index],
        Expression::AccessIndex { base, .. } => vec![base],
        Expression::Splat { value, .. } => vec![value],
        Expression::Swizzle { vector, .. } => vec![vector],
        Expression::Load { pointer } => vec![pointer],
        Expression::Unary { expr, .. } | Expression::As { expr, .. } => vec![expr],
        Expression::Binary { left, right, .. } => vec![left, right],
        Expression::Select { condition, accept, reject } => vec![condition, accept, reject],
        Expression::Relational { argument, .. } => vec![argument],
        Expression::Math { arg, arg1, arg2, arg3, .. } => [Some(arg), arg1, arg2, arg3].into_iter().flatten().collect(),
        _ => Vec::new(),
    }
}
