//! Conditions that compare a member with a constant, answered from the record's bytes.
//!
//! Most conditions of filters are of this kind, and running them through VRL costs more than scanning the record. What is
//! not plainly a number, text or boolean on both sides is left to VRL, errors and all, so nothing here has a meaning
//! of its own.

use crate::{record::Lazy, value};
use vrl::{
    parser::ast::{Container, Expr, Literal, Opcode, QueryTarget, RootExpr, Unary},
    path::{OwnedSegment, PathPrefix},
    value::KeyString,
};

/// Up to here a float holds every integer: VRL compares integers for equality as floats.
const EXACT: u64 = 1 << 53;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// A member against a constant.
    Compare(usize, Opcode, Constant),
    /// The second counts when the first is true.
    And(Box<Condition>, Box<Condition>),
    /// The second counts when the first is false.
    Or(Box<Condition>, Box<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// What stands before `??`: what stands behind it counts only where VRL has to be asked anyway.
    Otherwise(Box<Condition>),
}

/// The right-hand side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constant {
    /// A whole number.
    Integer(i64),
    /// Text without anything to fill in.
    Text(String),
    /// true or false.
    Boolean(bool),
}

impl Condition {
    /// The condition that this source is, if it is one of these; `members` are the slots of the record.
    pub(crate) fn of(source: &str, members: &[KeyString]) -> Option<Condition> {
        let program = vrl::parser::parse(source).ok()?;
        match program.0.as_slice() {
            [root] => match root.inner() {
                RootExpr::Expr(expr) => build(expr.inner(), members),
                RootExpr::Error(_) => None,
            },
            _ => None,
        }
    }

    /// The answer for a record, or `None`: ask VRL.
    #[inline]
    pub(crate) fn decide(&self, record: &Lazy<'_>) -> Option<bool> {
        match self {
            Condition::Compare(slot, op, constant) => {
                let (text, escaped) = record.text_of(*slot)?;
                compare(text, escaped, *op, constant)
            }
            Condition::And(first, second) => {
                if first.decide(record)? {
                    second.decide(record)
                } else {
                    Some(false)
                }
            }
            Condition::Or(first, second) => {
                if first.decide(record)? {
                    Some(true)
                } else {
                    second.decide(record)
                }
            }
            Condition::Not(inner) => inner.decide(record).map(|answer| !answer),
            Condition::Otherwise(inner) => inner.decide(record),
        }
    }
}

fn build(expr: &Expr, members: &[KeyString]) -> Option<Condition> {
    let boxed = |expr: &Expr| build(expr, members).map(Box::new);
    match expr {
        Expr::Container(container) => match container.inner() {
            Container::Group(group) => build(group.inner().0.inner(), members),
            _ => None,
        },
        Expr::Unary(unary) => match unary.inner() {
            Unary::Not(not) => {
                let (_, inner) = not.inner().clone().take();
                Some(Condition::Not(boxed(inner.inner())?))
            }
        },
        Expr::Op(op) => {
            let (left, op, right) = (op.inner().0.inner(), *op.inner().1.inner(), op.inner().2.inner());
            match op {
                Opcode::And => Some(Condition::And(boxed(left)?, boxed(right)?)),
                Opcode::Or => Some(Condition::Or(boxed(left)?, boxed(right)?)),
                Opcode::Err => Some(Condition::Otherwise(boxed(left)?)),
                Opcode::Eq | Opcode::Ne | Opcode::Ge | Opcode::Gt | Opcode::Le | Opcode::Lt => {
                    let constant = constant(right, op)?;
                    Some(Condition::Compare(slot(left, members)?, op, constant))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The slot of `.name`.
fn slot(expr: &Expr, members: &[KeyString]) -> Option<usize> {
    let Expr::Query(query) = expr else { return None };
    let QueryTarget::External(PathPrefix::Event) = query.inner().target.inner() else { return None };
    let [OwnedSegment::Field(name)] = query.inner().path.inner().segments.as_slice() else { return None };
    members.iter().position(|member| member == name)
}

fn constant(expr: &Expr, op: Opcode) -> Option<Constant> {
    let Expr::Literal(literal) = expr else { return None };
    let equality = matches!(op, Opcode::Eq | Opcode::Ne);
    match literal.inner() {
        Literal::Integer(number) => {
            (!equality || number.unsigned_abs() <= EXACT).then_some(Constant::Integer(*number))
        }
        Literal::String(text) if equality => text.as_literal_string().map(|t| Constant::Text(t.to_owned())),
        Literal::Boolean(value) if equality => Some(Constant::Boolean(*value)),
        _ => None,
    }
}

#[inline]
fn compare(text: &[u8], escaped: bool, op: Opcode, constant: &Constant) -> Option<bool> {
    match constant {
        Constant::Integer(constant) => {
            let number = value::integer(text)?;
            match op {
                Opcode::Ge => Some(number >= *constant),
                Opcode::Gt => Some(number > *constant),
                Opcode::Le => Some(number <= *constant),
                Opcode::Lt => Some(number < *constant),
                _ if number.unsigned_abs() > EXACT => None,
                Opcode::Eq => Some(number == *constant),
                Opcode::Ne => Some(number != *constant),
                _ => None,
            }
        }
        Constant::Text(constant) => {
            let text = text.strip_prefix(b"\"").filter(|_| !escaped)?.strip_suffix(b"\"")?;
            equal(op, text == constant.as_bytes())
        }
        Constant::Boolean(constant) => {
            let value = match text {
                b"true" => true,
                b"false" => false,
                _ => return None,
            };
            equal(op, value == *constant)
        }
    }
}

#[inline]
fn equal(op: Opcode, same: bool) -> Option<bool> {
    match op {
        Opcode::Eq => Some(same),
        Opcode::Ne => Some(!same),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<KeyString> {
        vec!["a".into(), "b".into()]
    }

    #[test]
    fn comparisons_with_constants_and_what_joins_them_are_answered_here() {
        for source in
            [".a >= 0", "(.a > 1) ?? false", "  .b == \"x\" && !(.a < 3)\n", ".a == true || .b != 5 # why"]
        {
            assert!(Condition::of(source, &members()).is_some(), "{source}");
        }
        let compare = Condition::Compare(1, Opcode::Lt, Constant::Integer(7));
        assert_eq!(Condition::of(".b < 7", &members()), Some(compare));
    }

    #[test]
    fn everything_else_is_left_to_vrl() {
        for source in [
            ".a + 1 > 2",
            ".a.b > 2",
            ".a > .b",
            "5 < .a",
            ".a > 1.5",
            ".a == 9007199254740993",
            ".a == \"{{ x }}\"",
            "x = .a\nx > 2",
            "exists(.a)",
            ".a > \"x\"",
            ". == 1",
        ] {
            assert_eq!(Condition::of(source, &members()), None, "{source}");
        }
    }
}
