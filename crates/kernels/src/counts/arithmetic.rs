//! Sums, products and functions of an invocation.

use naga::{BinaryOperator, Expression, Handle, MathFunction};

use super::machine::{Class, Machine};
use super::value::{Value, is_float, scalars};

impl Machine<'_> {
    pub(super) fn binary(
        &mut self,
        handle: Handle<Expression>,
        op: BinaryOperator,
        left: Handle<Expression>,
        right: Handle<Expression>,
    ) -> Value {
        let (inner, operand) = (self.inner(handle), self.inner(left));
        let n = scalars(&self.program.module, inner);
        if is_float(operand) {
            let fused = self.fused();
            let class = match op {
                BinaryOperator::Divide => Class::Special,
                BinaryOperator::Add | BinaryOperator::Subtract if fused.contains(&left) || fused.contains(&right) => Class::Fma,
                _ => Class::Float,
            };
            if !fused.contains(&handle) {
                self.count(class, n);
            }
            return Value::Float;
        }
        let (a, b) = (self.value(left), self.value(right));
        let result = a.zip(&b, &|a, b| apply(op, a, b));
        self.integer(handle, &[a, b], result)
    }

    pub(super) fn math(&mut self, handle: Handle<Expression>, fun: MathFunction, operands: &[Value], n: u64) -> Value {
        let inner = self.inner(handle);
        if is_float(inner) {
            let (class, n) = match fun {
                MathFunction::Fma => (Class::Fma, n),
                MathFunction::Transpose => return Value::Float,
                // Of two vectors of four, as kernels have them.
                MathFunction::Dot => (Class::Fma, 4),
                MathFunction::Exp | MathFunction::Exp2 | MathFunction::Log2 | MathFunction::Tanh => (Class::Special, n),
                MathFunction::Sqrt | MathFunction::InverseSqrt | MathFunction::Pow => (Class::Special, n),
                _ => (Class::Float, n),
            };
            self.count(class, n);
            return Value::Float;
        }
        let pick =
            |smaller: bool| move |a: &Value, b: &Value| if apply(BinaryOperator::Less, a, b).holds() == smaller { a } else { b }.clone();
        let result = match (fun, operands) {
            (MathFunction::Min, [a, b]) => a.zip(b, &pick(true)),
            (MathFunction::Max, [a, b]) => a.zip(b, &pick(false)),
            (MathFunction::Clamp, [v, low, high]) => v.zip(low, &pick(false)).zip(high, &pick(true)),
            other => panic!("no kernel has {other:?} of integers"),
        };
        self.integer(handle, operands, result)
    }
}

fn apply(op: BinaryOperator, a: &Value, b: &Value) -> Value {
    use BinaryOperator as B;
    use Value::{Bool, Signed, Unsigned};
    macro_rules! numbers {
        ($kind:ident, $a:ident, $b:ident) => {
            match op {
                B::Add => $kind($a.wrapping_add(*$b)),
                B::Subtract => $kind($a.wrapping_sub(*$b)),
                B::Multiply => $kind($a.wrapping_mul(*$b)),
                B::Divide => $kind($a / $b),
                B::Modulo => $kind($a % $b),
                B::Less => Bool($a < $b),
                B::LessEqual => Bool($a <= $b),
                B::Greater => Bool($a > $b),
                B::GreaterEqual => Bool($a >= $b),
                other => panic!("no kernel has {other:?}"),
            }
        };
    }
    match (op, a, b) {
        (B::Equal, a, b) => Bool(a == b),
        (B::NotEqual, a, b) => Bool(a != b),
        (B::ShiftLeft, Unsigned(a), Unsigned(b)) => Unsigned(a << b),
        (B::ShiftLeft, Signed(a), Unsigned(b)) => Signed(a << b),
        (B::ShiftRight, Unsigned(a), Unsigned(b)) => Unsigned(a >> b),
        (B::ShiftRight, Signed(a), Unsigned(b)) => Signed(a >> b),
        (B::And | B::LogicalAnd, Bool(a), Bool(b)) => Bool(a & b),
        (B::InclusiveOr | B::LogicalOr, Bool(a), Bool(b)) => Bool(a | b),
        (B::And, Unsigned(a), Unsigned(b)) => Unsigned(a & b),
        (B::ExclusiveOr, Unsigned(a), Unsigned(b)) => Unsigned(a ^ b),
        (B::InclusiveOr, Unsigned(a), Unsigned(b)) => Unsigned(a | b),
        (_, Unsigned(a), Unsigned(b)) => numbers!(Unsigned, a, b),
        (_, Signed(a), Signed(b)) => numbers!(Signed, a, b),
        other => panic!("no kernel has {other:?}"),
    }
}
