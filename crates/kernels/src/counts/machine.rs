//! One invocation of a kernel, run by its naga module: integers and control flow are computed, floats only counted.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use naga::valid::FunctionInfo;
use naga::{
    AddressSpace, Block, BuiltIn, Expression, Function, Handle, RelationalFunction, ScalarKind, Statement, TypeInner, UnaryOperator,
};

use super::program::Program;
use super::value::{Place, Root, Value, is_float, scalars};

/// What is counted, per invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A multiply-add of one number.
    Fma,
    /// Another operation on one float.
    Float,
    /// A root, an exponential, a division.
    Special,
    /// An operation on one integer or condition, with operands that it did not have before: what repeats is computed once by
    /// compilers, which unroll loops and move out of them what does not change.
    Integer,
    LoadGlobal,
    StoreGlobal,
    LoadShared,
    StoreShared,
    Barrier,
    /// A round of a loop.
    Branch,
}

pub(super) const CLASSES: usize = Class::Branch as usize + 1;

/// An access to workgroup memory. Those of several lanes with equal site, `barriers` and `nth` happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Access {
    pub(super) site: (u32, u32),
    pub(super) barriers: u64,
    pub(super) nth: u32,
}

/// Where an invocation is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) lane: u32,
    pub(super) group: [u32; 3],
    pub(super) groups: [u32; 3],
}

/// The words of the uniform and storage buffers by binding; of those that are absent every integer is 0.
pub(super) type Buffers = HashMap<u32, Vec<u32>>;

pub(super) struct Machine<'a> {
    pub(super) program: &'a Program,
    fused: HashMap<Option<Handle<Function>>, HashSet<Handle<Expression>>>,
    buffers: &'a Buffers,
    at: Lane,
    frames: Vec<Frame<'a>>,
    seen: HashSet<u64>,
    pub(super) counts: [u64; CLASSES],
    /// Bytes read from storage buffers.
    pub(super) loaded: u64,
    /// First byte and number of bytes of each access to workgroup memory.
    pub(super) shared: HashMap<Access, (u32, u32)>,
    nth: HashMap<((u32, u32), u64), u32>,
    /// How often each counter of an instrumented kernel was raised.
    pub(super) raised: Vec<u32>,
}

struct Frame<'a> {
    handle: Option<Handle<Function>>,
    function: &'a Function,
    info: &'a FunctionInfo,
    arguments: Vec<Value>,
    values: Vec<Option<Value>>,
    locals: Vec<Value>,
}

enum Flow {
    Next,
    Break,
    Continue,
    Return(Option<Value>),
}

impl<'a> Machine<'a> {
    /// Runs the entry point for one lane.
    pub(super) fn run(program: &'a Program, buffers: &'a Buffers, at: Lane) -> Self {
        let handles = program.module.functions.iter().map(|(handle, _)| Some(handle)).chain([None]);
        let mut machine = Self {
            program,
            fused: handles.map(|handle| (handle, program.fused(handle))).collect(),
            buffers,
            at,
            frames: Vec::new(),
            seen: HashSet::new(),
            counts: [0; CLASSES],
            loaded: 0,
            shared: HashMap::new(),
            nth: HashMap::new(),
            raised: Vec::new(),
        };
        let (main, _) = program.function(None);
        let arguments = main.arguments.iter().map(|argument| machine.builtin(argument.binding.as_ref(), argument.ty)).collect();
        machine.call(None, arguments);
        machine
    }

    fn builtin(&self, binding: Option<&naga::Binding>, ty: Handle<naga::Type>) -> Value {
        let vector = |v: [u32; 3]| Value::many(v.map(Value::Unsigned));
        match (binding, &self.program.module.types[ty].inner) {
            (Some(naga::Binding::BuiltIn(BuiltIn::LocalInvocationIndex)), _) => Value::Unsigned(self.at.lane),
            (Some(naga::Binding::BuiltIn(BuiltIn::WorkGroupId)), _) => vector(self.at.group),
            (Some(naga::Binding::BuiltIn(BuiltIn::NumWorkGroups)), _) => vector(self.at.groups),
            (None, TypeInner::Struct { members, .. }) => Value::many(members.iter().map(|m| self.builtin(m.binding.as_ref(), m.ty))),
            other => panic!("no kernel asks for {other:?}"),
        }
    }

    fn call(&mut self, handle: Option<Handle<Function>>, arguments: Vec<Value>) -> Option<Value> {
        let (function, info) = self.program.function(handle);
        let locals = function.local_variables.iter().map(|(_, local)| Value::zero(&self.program.module, local.ty)).collect();
        self.frames.push(Frame { handle, function, info, arguments, values: vec![None; function.expressions.len()], locals });
        for (local, variable) in function.local_variables.iter() {
            if let Some(init) = variable.init {
                let value = self.value(init);
                self.frame().locals[local.index()] = value;
            }
        }
        let flow = self.block(&function.body);
        self.frames.pop();
        if let Flow::Return(value) = flow { value } else { None }
    }

    /// The products of the function that runs which are part of a multiply-add.
    pub(super) fn fused(&self) -> &HashSet<Handle<Expression>> {
        &self.fused[&self.frames.last().expect("a function is running").handle]
    }

    fn frame(&mut self) -> &mut Frame<'a> {
        self.frames.last_mut().expect("a function is running")
    }

    fn block(&mut self, block: &'a Block) -> Flow {
        for statement in block {
            let flow = self.statement(statement);
            if !matches!(flow, Flow::Next) {
                return flow;
            }
        }
        Flow::Next
    }

    fn statement(&mut self, statement: &'a Statement) -> Flow {
        match statement {
            Statement::Emit(range) => {
                for handle in range.clone() {
                    let value = self.compute(handle);
                    self.frame().values[handle.index()] = Some(value);
                }
            }
            Statement::Block(block) => return self.block(block),
            Statement::If { condition, accept, reject } => {
                return if self.value(*condition).holds() { self.block(accept) } else { self.block(reject) };
            }
            Statement::Loop { body, continuing, break_if } => loop {
                self.count(Class::Branch, 1);
                match self.block(body) {
                    Flow::Break => break,
                    Flow::Next | Flow::Continue => {}
                    done @ Flow::Return(_) => return done,
                }
                self.block(continuing);
                if break_if.is_some_and(|condition| self.value(condition).holds()) {
                    break;
                }
            },
            Statement::Break => return Flow::Break,
            Statement::Continue => return Flow::Continue,
            Statement::Return { value } => return Flow::Return(value.map(|value| self.value(value))),
            Statement::ControlBarrier(_) => self.count(Class::Barrier, 1),
            Statement::Store { pointer, value } => self.store(*pointer, *value),
            Statement::Call { function, arguments, result } => {
                let arguments = arguments.iter().map(|argument| self.value(*argument)).collect();
                let value = self.call(Some(*function), arguments);
                if let Some(result) = result {
                    self.frame().values[result.index()] = value;
                }
            }
            Statement::Atomic { pointer, .. } => {
                let Value::At(place) = self.value(*pointer) else { panic!("an atomic operation needs a pointer") };
                let counter = place.path[0] as usize;
                self.raised.resize(self.raised.len().max(counter + 1), 0);
                self.raised[counter] += 1;
            }
            other => panic!("no kernel has {other:?}"),
        }
        Flow::Next
    }

    /// What an expression is worth: computed before, or nothing that is computed.
    pub(super) fn value(&mut self, handle: Handle<Expression>) -> Value {
        let made = self.frame().values[handle.index()].clone();
        made.unwrap_or_else(|| self.compute(handle))
    }

    pub(super) fn inner(&mut self, handle: Handle<Expression>) -> &'a TypeInner {
        let info = self.frame().info;
        self.program.inner(info, handle)
    }

    pub(super) fn count(&mut self, class: Class, n: u64) {
        self.counts[class as usize] += n;
    }

    /// Counts an operation on integers, unless it had these operands before.
    pub(super) fn integer(&mut self, handle: Handle<Expression>, operands: &[Value], result: Value) -> Value {
        let mut hasher = DefaultHasher::new();
        (self.frame().handle, handle, operands).hash(&mut hasher);
        if self.seen.insert(hasher.finish()) {
            let inner = self.inner(handle);
            self.count(Class::Integer, scalars(&self.program.module, inner));
        }
        result
    }

    fn compute(&mut self, handle: Handle<Expression>) -> Value {
        let module = &self.program.module;
        let function = self.frame().function;
        let inner = self.inner(handle);
        let n = scalars(module, inner);
        let depth = self.frames.len() - 1;
        match function.expressions[handle] {
            Expression::Literal(literal) => Value::literal(literal),
            Expression::Constant(constant) => self.constant(module.constants[constant].init),
            Expression::ZeroValue(ty) => Value::zero(module, ty),
            Expression::FunctionArgument(i) => self.frame().arguments[i as usize].clone(),
            Expression::GlobalVariable(global) => Value::At(Place { root: Root::Global(global), path: Vec::new() }),
            Expression::LocalVariable(local) => Value::At(Place { root: Root::Local(depth, local), path: Vec::new() }),
            Expression::Compose { .. } | Expression::Splat { .. } | Expression::Swizzle { .. } if is_float(inner) => Value::Float,
            Expression::Compose { ref components, .. } => {
                let parts: Vec<Value> = components.iter().map(|component| self.value(*component)).collect();
                let flat = matches!(inner, TypeInner::Vector { .. });
                let spread = |part: Value| if let (true, Value::Many(inside)) = (flat, &part) { inside.to_vec() } else { vec![part] };
                Value::many(parts.into_iter().flat_map(spread))
            }
            Expression::Splat { size, value } => {
                let value = self.value(value);
                Value::many((0..size as u32).map(|_| value.clone()))
            }
            Expression::Swizzle { size, vector, pattern } => {
                let vector = self.value(vector);
                Value::many(pattern[..size as usize].iter().map(|component| vector.part(*component as u32)))
            }
            Expression::Access { base, index } => {
                let index = self.value(index).index();
                self.value(base).part(index)
            }
            Expression::AccessIndex { base, index } => self.value(base).part(index),
            Expression::Load { pointer } => self.load(handle, pointer),
            Expression::Select { condition, accept, reject } => {
                let [condition, accept, reject] = [condition, accept, reject].map(|h| self.value(h));
                if is_float(inner) {
                    self.count(Class::Float, n);
                    return Value::Float;
                }
                let chosen = if let Value::Many(conditions) = &condition {
                    Value::many(conditions.iter().enumerate().map(|(i, c)| if c.holds() { &accept } else { &reject }.part(i as u32)))
                } else if condition.holds() {
                    accept.clone()
                } else {
                    reject.clone()
                };
                self.integer(handle, &[condition, accept, reject], chosen)
            }
            Expression::As { expr, kind, .. } => {
                let value = self.value(expr);
                if kind == ScalarKind::Float {
                    self.count(Class::Float, n);
                    return Value::Float;
                }
                value.map(&|v| match (v, kind) {
                    (Value::Bool(v), ScalarKind::Uint) => Value::Unsigned(u32::from(*v)),
                    (Value::Signed(v), ScalarKind::Uint) => Value::Unsigned(v.cast_unsigned()),
                    (Value::Unsigned(v), ScalarKind::Sint) => Value::Signed(v.cast_signed()),
                    (same, _) => same.clone(),
                })
            }
            Expression::Unary { op, expr } => {
                let value = self.value(expr);
                if value == Value::Float {
                    self.count(Class::Float, n);
                    return Value::Float;
                }
                let result = value.map(&|v| match (op, v) {
                    (UnaryOperator::Negate, Value::Signed(v)) => Value::Signed(v.wrapping_neg()),
                    (UnaryOperator::LogicalNot, Value::Bool(v)) => Value::Bool(!v),
                    (UnaryOperator::BitwiseNot, Value::Unsigned(v)) => Value::Unsigned(!v),
                    other => panic!("no kernel has {other:?}"),
                });
                self.integer(handle, &[value], result)
            }
            Expression::Binary { op, left, right } => self.binary(handle, op, left, right),
            Expression::Relational { fun, argument } => {
                let value = self.value(argument);
                let Value::Many(parts) = &value else { panic!("{fun:?} of {value:?}") };
                let result = match fun {
                    RelationalFunction::All => parts.iter().all(Value::holds),
                    RelationalFunction::Any => parts.iter().any(Value::holds),
                    other => panic!("no kernel has {other:?}"),
                };
                self.integer(handle, std::slice::from_ref(&value), Value::Bool(result))
            }
            Expression::Math { fun, arg, arg1, arg2, .. } => {
                let operands: Vec<Value> = [Some(arg), arg1, arg2].into_iter().flatten().map(|h| self.value(h)).collect();
                self.math(handle, fun, &operands, n)
            }
            ref other => panic!("no kernel has {other:?}"),
        }
    }

    fn constant(&self, handle: Handle<Expression>) -> Value {
        match self.program.module.global_expressions[handle] {
            Expression::Literal(literal) => Value::literal(literal),
            Expression::Constant(constant) => self.constant(self.program.module.constants[constant].init),
            // Of floats.
            _ => Value::Float,
        }
    }

    /// The variable behind a place and where in it, in bytes.
    fn locate(&self, place: &Place) -> Option<(&'a naga::GlobalVariable, u32)> {
        let module = &self.program.module;
        let Root::Global(global) = place.root else { return None };
        let variable = &module.global_variables[global];
        let (mut inner, mut offset) = (&module.types[variable.ty].inner, 0);
        for index in &place.path {
            match inner {
                TypeInner::Array { base, stride, .. } => (inner, offset) = (&module.types[*base].inner, offset + stride * index),
                TypeInner::Struct { members, .. } => {
                    let member = &members[*index as usize];
                    (inner, offset) = (&module.types[member.ty].inner, offset + member.offset);
                }
                _ => offset += 4 * index,
            }
        }
        Some((variable, offset))
    }

    fn load(&mut self, handle: Handle<Expression>, pointer: Handle<Expression>) -> Value {
        let Value::At(place) = self.value(pointer) else { panic!("a load needs a pointer") };
        if let Root::Local(depth, local) = place.root {
            return place.path.iter().fold(self.frames[depth].locals[local.index()].clone(), |value, index| value.part(*index));
        }
        let inner = self.inner(handle);
        let module = &self.program.module;
        let (variable, offset) = self.locate(&place).expect("a global variable");
        let words = variable.binding.and_then(|binding| self.buffers.get(&binding.binding)).map_or(&[][..], Vec::as_slice);
        let bytes = inner.size(module.to_ctx());
        match variable.space {
            AddressSpace::WorkGroup => self.access(handle, Class::LoadShared, offset, bytes),
            AddressSpace::Storage { .. } => {
                self.count(Class::LoadGlobal, 1);
                self.loaded += u64::from(bytes);
            }
            _ => {}
        }
        Value::read(module, inner, words, offset)
    }

    fn store(&mut self, pointer: Handle<Expression>, value: Handle<Expression>) {
        let new = self.value(value);
        let Value::At(place) = self.value(pointer) else { panic!("a store needs a pointer") };
        if let Root::Local(depth, local) = place.root {
            self.frames[depth].locals[local.index()].set(&place.path, new);
            return;
        }
        let bytes = self.inner(value).size(self.program.module.to_ctx());
        let (variable, offset) = self.locate(&place).expect("a global variable");
        match variable.space {
            AddressSpace::WorkGroup => self.access(pointer, Class::StoreShared, offset, bytes),
            _ => self.count(Class::StoreGlobal, 1),
        }
    }

    fn access(&mut self, handle: Handle<Expression>, class: Class, offset: u32, bytes: u32) {
        self.count(class, 1);
        let function = self.frame().handle.map_or(0, |handle| handle.index() as u32 + 1);
        let (site, barriers) = ((function, handle.index() as u32), self.counts[Class::Barrier as usize]);
        let nth = self.nth.entry((site, barriers)).or_default();
        self.shared.insert(Access { site, barriers, nth: *nth }, (offset, bytes));
        *nth += 1;
    }
}
