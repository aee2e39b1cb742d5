//! What an invocation computes with: integers as they are, floats as nothing but that they are floats.

use std::rc::Rc;

use naga::{ArraySize, Handle, Literal, LocalVariable, Module, ScalarKind, Type, TypeInner};

/// A value of any type. Vectors and matrices of floats are one [`Float`](Self::Float).
#[derive(Clone, Debug, Hash, PartialEq)]
pub(super) enum Value {
    Unsigned(u32),
    Signed(i32),
    Bool(bool),
    Float,
    Many(Rc<[Self]>),
    At(Place),
}

/// What a pointer points to: a variable and the indices into it.
#[derive(Clone, Debug, Hash, PartialEq)]
pub(super) struct Place {
    pub(super) root: Root,
    pub(super) path: Vec<u32>,
}

#[derive(Clone, Debug, Hash, PartialEq)]
pub(super) enum Root {
    Global(Handle<naga::GlobalVariable>),
    /// Of the function call at this depth.
    Local(usize, Handle<LocalVariable>),
}

impl Value {
    pub(super) fn many(values: impl IntoIterator<Item = Self>) -> Self {
        Self::Many(values.into_iter().collect())
    }

    pub(super) fn literal(literal: Literal) -> Self {
        match literal {
            Literal::U32(v) => Self::Unsigned(v),
            Literal::I32(v) => Self::Signed(v),
            Literal::Bool(v) => Self::Bool(v),
            Literal::F32(_) => Self::Float,
            other => panic!("no kernel has {other:?}"),
        }
    }

    /// A value in memory, of the words from `at`; words beyond the end are zero.
    pub(super) fn read(module: &Module, inner: &TypeInner, words: &[u32], at: u32) -> Self {
        let scalar = |kind, at: u32| {
            let word = words.get(at as usize / 4).copied().unwrap_or(0);
            match kind {
                ScalarKind::Uint => Self::Unsigned(word),
                ScalarKind::Sint => Self::Signed(word.cast_signed()),
                _ => Self::Bool(word != 0),
            }
        };
        match *inner {
            _ if is_float(inner) => Self::Float,
            TypeInner::Scalar(of) | TypeInner::Atomic(of) => scalar(of.kind, at),
            TypeInner::Vector { size, scalar: of } => Self::many((0..size as u32).map(|i| scalar(of.kind, at + 4 * i))),
            TypeInner::Array { base, size: ArraySize::Constant(size), stride } => {
                Self::many((0..size.get()).map(|i| Self::read(module, &module.types[base].inner, words, at + stride * i)))
            }
            TypeInner::Struct { ref members, .. } => {
                Self::many(members.iter().map(|m| Self::read(module, &module.types[m.ty].inner, words, at + m.offset)))
            }
            ref other => panic!("no kernel reads {other:?}"),
        }
    }

    pub(super) fn zero(module: &Module, ty: Handle<Type>) -> Self {
        Self::read(module, &module.types[ty].inner, &[], 0)
    }

    pub(super) fn part(&self, index: u32) -> Self {
        match self {
            Self::Float => Self::Float,
            Self::Many(parts) => parts[index as usize].clone(),
            Self::At(place) => {
                let mut place = place.clone();
                place.path.push(index);
                Self::At(place)
            }
            other => panic!("{other:?} has no parts"),
        }
    }

    pub(super) fn set(&mut self, path: &[u32], value: Self) {
        match (path, self) {
            (_, Self::Float) => {}
            ([], this) => *this = value,
            ([first, rest @ ..], Self::Many(parts)) => Rc::make_mut(parts)[*first as usize].set(rest, value),
            (_, this) => panic!("{this:?} has no parts"),
        }
    }

    /// An index or a number of something.
    pub(super) fn index(&self) -> u32 {
        match self {
            Self::Unsigned(v) => *v,
            Self::Signed(v) => u32::try_from(*v).expect("no kernel has a negative index"),
            other => panic!("{other:?} is no index"),
        }
    }

    /// A condition. One that depends on floats is unknown here.
    pub(super) fn holds(&self) -> bool {
        match self {
            Self::Bool(v) => *v,
            other => panic!("{other:?} is no condition that can be known"),
        }
    }

    /// For each component; a scalar beside a vector stands for all of its components.
    pub(super) fn zip(&self, other: &Self, f: &impl Fn(&Self, &Self) -> Self) -> Self {
        match (self, other) {
            (Self::Many(a), Self::Many(b)) => Self::many(a.iter().zip(b.iter()).map(|(a, b)| a.zip(b, f))),
            (Self::Many(a), b) => Self::many(a.iter().map(|a| a.zip(b, f))),
            (a, Self::Many(b)) => Self::many(b.iter().map(|b| a.zip(b, f))),
            (a, b) => f(a, b),
        }
    }

    pub(super) fn map(&self, f: &impl Fn(&Self) -> Self) -> Self {
        if let Self::Many(parts) = self { Self::many(parts.iter().map(|part| part.map(f))) } else { f(self) }
    }
}

pub(super) fn is_float(inner: &TypeInner) -> bool {
    matches!(inner, TypeInner::Scalar(of) | TypeInner::Vector { scalar: of, .. } | TypeInner::Matrix { scalar: of, .. }
        if of.kind == ScalarKind::Float)
}

/// How many numbers it is made of; 0 for pointers.
pub(super) fn scalars(module: &Module, inner: &TypeInner) -> u64 {
    match *inner {
        TypeInner::Scalar(_) => 1,
        TypeInner::Vector { size, .. } => size as u64,
        TypeInner::Matrix { columns, rows, .. } => columns as u64 * rows as u64,
        TypeInner::Array { base, size: ArraySize::Constant(size), .. } => {
            u64::from(size.get()) * scalars(module, &module.types[base].inner)
        }
        TypeInner::Struct { ref members, .. } => members.iter().map(|m| scalars(module, &module.types[m.ty].inner)).sum(),
        _ => 0,
    }
}
