//! Running a program: VRL's rules, one by one.

use super::{
    Expr, Native, Op, Step, Stop, To,
    text::{join, repeat_is_rare},
    val::{self, Val, within},
};
use crate::{
    index::Found,
    splice::{New, Renewed},
};
use bumpalo::Bump;

/// One record while a program runs over it.
pub(super) struct Env<'a> {
    bytes: &'a [u8],
    found: Found<'a>,
    pub(super) arena: &'a Bump,
    /// By slot: what became of the member. Empty when the program writes nothing.
    overlay: &'a mut [Overlay<'a>],
    locals: &'a mut [Val<'a>],
    root: Option<Val<'a>>,
}

#[derive(Clone, Copy, Debug)]
enum Overlay<'a> {
    AsItCame,
    Removed,
    Set(Val<'a>),
}

impl<'a> Env<'a> {
    #[inline]
    pub(super) fn new(program: &Native, bytes: &'a [u8], found: Found<'a>, arena: &'a Bump) -> Self {
        let overlay: &mut [Overlay<'_>] = if program.writes {
            arena.alloc_slice_fill_copy(found.len(), Overlay::AsItCame)
        } else {
            &mut []
        };
        let locals: &mut [Val<'_>] =
            if program.locals > 0 { arena.alloc_slice_fill_copy(program.locals, Val::Null) } else { &mut [] };
        Self { bytes, found, arena, overlay, locals, root: None }
    }

    pub(super) fn is_changed(&self) -> bool {
        self.root.is_some() || self.overlay.iter().any(|slot| !matches!(slot, Overlay::AsItCame))
    }

    /// The record as it is now, appended to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>, renewed: Option<&mut Renewed>) -> Result<(), Stop> {
        if let Some(root) = self.root {
            return val::write(out, root);
        }
        let new = |slot: usize| match self.overlay.get(slot) {
            None | Some(Overlay::AsItCame) => New::AsItCame,
            Some(Overlay::Removed) => New::Removed,
            Some(Overlay::Set(value)) => New::Set(*value),
        };
        self.found.splice(self.bytes, out, renewed, new, |out, value| val::write(out, value))
    }

    /// The value of the last of these; there is one.
    #[inline]
    pub(super) fn block(&mut self, body: &'a [Expr]) -> Result<Val<'a>, Stop> {
        let Some((last, others)) = body.split_last() else { return Err(Stop::Ask) };
        for expr in others {
            self.unused(expr)?;
        }
        self.eval(last)
    }

    /// Run for the effects alone.
    #[inline]
    pub(super) fn unused(&mut self, expr: &'a Expr) -> Result<(), Stop> {
        match expr {
            Expr::If(condition, then, other) => {
                let branch = if self.condition(condition)? { then } else { other };
                self.unused(branch)
            }
            Expr::Block(body) => body.iter().try_for_each(|expr| self.unused(expr)),
            expr => self.eval(expr).map(drop),
        }
    }

    #[inline]
    fn condition(&mut self, expr: &'a Expr) -> Result<bool, Stop> {
        match self.eval(expr)? {
            Val::Bool(answer) => Ok(answer),
            _ => Err(Stop::Fail),
        }
    }

    /// The value of an expression.
    pub(super) fn eval(&mut self, expr: &'a Expr) -> Result<Val<'a>, Stop> {
        Ok(match expr {
            Expr::Null => Val::Null,
            Expr::Bool(value) => Val::Bool(*value),
            Expr::Int(value) => Val::Int(*value),
            Expr::Float(value) => Val::Float(*value),
            Expr::Text(text) => Val::Text(text),
            Expr::Field(slot) => self.field(*slot)?.unwrap_or(Val::Null),
            Expr::Local(local) => self.locals[*local],
            Expr::Within(from, steps) => self.place(from, steps)?.unwrap_or(Val::Null),
            Expr::Not(inner) => Val::Bool(!self.condition(inner)?),
            Expr::And(left, right) => match self.eval(left)? {
                Val::Null | Val::Bool(false) => Val::Bool(false),
                left => match (left, self.eval(right)?) {
                    (Val::Bool(_), Val::Null) => Val::Bool(false),
                    (Val::Bool(left), Val::Bool(right)) => Val::Bool(left && right),
                    _ => return Err(Stop::Fail),
                },
            },
            Expr::Or(left, right) => match self.eval(left)? {
                // What stops the right side is an error of the `||` in VRL.
                Val::Null | Val::Bool(false) => self.eval(right).map_err(|stop| match stop {
                    Stop::Abort => Stop::Ask,
                    stop => stop,
                })?,
                left => left,
            },
            Expr::Otherwise(left, right) => match self.short(left) {
                Err(Stop::Fail | Stop::Abort) => self.eval(right)?,
                other => other?,
            },
            Expr::Binary(op, left, right) => return self.binary(*op, left, right),
            Expr::If(condition, then, other) => {
                let branch = if self.condition(condition)? { then } else { other };
                self.eval(branch)?
            }
            Expr::Block(body) => self.block(body)?,
            Expr::Assign(to, value) => {
                let value = self.eval(value)?;
                self.assign(*to, value);
                value
            }
            Expr::Try(ok, err, value) => {
                // The text of an error is VRL's.
                let value = self.eval(value).map_err(|_| Stop::Ask)?;
                self.assign(*ok, value);
                self.assign(*err, Val::Null);
                value
            }
            Expr::Delete(slot) => self.delete(*slot)?,
            Expr::Exists(slot, steps) => Val::Bool(self.exists(*slot, steps)?),
            Expr::Object(_) | Expr::Array(_) => return self.container(expr),
            Expr::Call(function, arguments) => return self.call(*function, arguments),
            Expr::Abort => return Err(Stop::Abort),
        })
    }

    /// The same, without a call for what most conditions are made of.
    #[inline(always)]
    fn short(&mut self, expr: &'a Expr) -> Result<Val<'a>, Stop> {
        match expr {
            Expr::Field(slot) => Ok(self.field(*slot)?.unwrap_or(Val::Null)),
            Expr::Binary(op, left, right) => self.binary(*op, left, right),
            expr => self.eval(expr),
        }
    }

    fn container(&mut self, expr: &'a Expr) -> Result<Val<'a>, Stop> {
        Ok(match expr {
            Expr::Object(members) => {
                let made = self.arena.alloc_slice_fill_copy(members.len(), ("", Val::Null));
                for (made, (name, value)) in made.iter_mut().zip(members) {
                    *made = (name.as_str(), self.eval(value)?);
                }
                Val::Object(made)
            }
            Expr::Array(items) => {
                let made = self.arena.alloc_slice_fill_copy(items.len(), Val::Null);
                for (made, item) in made.iter_mut().zip(items) {
                    *made = self.eval(item)?;
                }
                Val::Array(made)
            }
            _ => return Err(Stop::Ask),
        })
    }

    /// A member as it is now.
    #[inline]
    fn field(&self, slot: usize) -> Result<Option<Val<'a>>, Stop> {
        match self.overlay.get(slot) {
            Some(Overlay::Removed) => Ok(None),
            Some(Overlay::Set(value)) => Ok(Some(*value)),
            _ => match self.found.member(slot) {
                Some(member) => val::decode(self.bytes, member.value(), member.escaped, self.arena).map(Some),
                None => Ok(None),
            },
        }
    }

    fn place(&mut self, from: &'a Expr, steps: &[Step]) -> Result<Option<Val<'a>>, Stop> {
        if let Expr::Field(slot) = from {
            return self.field_place(*slot, steps);
        }
        let from = self.eval(from)?;
        within(from, steps, self.arena)
    }

    /// A place within a member, of which nothing else is decoded.
    fn field_place(&self, slot: usize, steps: &[Step]) -> Result<Option<Val<'a>>, Stop> {
        match self.overlay.get(slot) {
            Some(Overlay::Removed) => Ok(None),
            Some(Overlay::Set(value)) => within(*value, steps, self.arena),
            _ => match self.found.member(slot) {
                Some(member) => val::in_text(&self.bytes[member.value()], steps, self.arena),
                None => Ok(None),
            },
        }
    }

    fn exists(&self, slot: usize, steps: &[Step]) -> Result<bool, Stop> {
        match (self.overlay.get(slot), steps) {
            (None | Some(Overlay::AsItCame), []) => Ok(self.found.member(slot).is_some()),
            _ => self.field_place(slot, steps).map(|found| found.is_some()),
        }
    }

    fn delete(&mut self, slot: usize) -> Result<Val<'a>, Stop> {
        let Some(value) = self.field(slot)? else { return Ok(Val::Null) };
        self.overlay[slot] = Overlay::Removed;
        Ok(value)
    }

    #[inline]
    fn assign(&mut self, to: To, value: Val<'a>) {
        match to {
            To::Nothing => {}
            To::Field(slot) => self.overlay[slot] = Overlay::Set(value),
            To::Local(local) => self.locals[local] = value,
            To::Root => self.root = Some(value),
        }
    }

    #[inline]
    fn binary(&mut self, op: Op, left: &'a Expr, right: &'a Expr) -> Result<Val<'a>, Stop> {
        let left = match left {
            Expr::Field(slot) => self.field(*slot)?.unwrap_or(Val::Null),
            left => self.eval(left)?,
        };
        // Constants are compared where they stand.
        let right = match right {
            Expr::Text(constant) if matches!(op, Op::Eq | Op::Ne) => {
                let same = matches!(left, Val::Text(text) if text == constant);
                return Ok(Val::Bool(same == (op == Op::Eq)));
            }
            Expr::Int(constant) => Val::Int(*constant),
            right => self.eval(right)?,
        };
        match op {
            Op::Eq => equal(left, right).map(Val::Bool),
            Op::Ne => equal(left, right).map(|same| Val::Bool(!same)),
            Op::Gt | Op::Ge | Op::Lt | Op::Le => compare(op, left, right).map(Val::Bool),
            Op::Add => self.add(left, right),
            Op::Sub | Op::Mul | Op::Div | Op::Rem => arithmetic(op, left, right),
        }
    }

    fn add(&self, left: Val<'a>, right: Val<'a>) -> Result<Val<'a>, Stop> {
        match (left, right) {
            (Val::Text(left), Val::Text(right)) => Ok(Val::Text(join(self.arena, left, right))),
            (text @ Val::Text(_), Val::Null) | (Val::Null, text @ Val::Text(_)) => Ok(text),
            (left, right) => arithmetic(Op::Add, left, right),
        }
    }
}

/// VRL compares integers for equality as floats.
#[inline]
fn equal(left: Val<'_>, right: Val<'_>) -> Result<bool, Stop> {
    Ok(match (left, right) {
        (Val::Int(left), Val::Int(right)) => left as f64 == right as f64,
        (Val::Int(left), Val::Float(right)) => left as f64 == right,
        (Val::Float(left), Val::Int(right)) => left == right as f64,
        (Val::Float(left), Val::Float(right)) => left == right,
        (Val::Text(left), Val::Text(right)) => left == right,
        (Val::Bool(left), Val::Bool(right)) => left == right,
        (Val::Null, Val::Null) => true,
        (Val::Raw(_) | Val::Object(_) | Val::Array(_), Val::Raw(_) | Val::Object(_) | Val::Array(_)) => {
            return Err(Stop::Ask);
        }
        _ => false,
    })
}

#[inline]
fn compare(op: Op, left: Val<'_>, right: Val<'_>) -> Result<bool, Stop> {
    let order = match (left, right) {
        (Val::Int(left), Val::Int(right)) => Some(left.cmp(&right)),
        (Val::Int(left), Val::Float(right)) => (left as f64).partial_cmp(&right),
        (Val::Float(left), Val::Int(right)) => left.partial_cmp(&(right as f64)),
        (Val::Float(left), Val::Float(right)) => left.partial_cmp(&right),
        (Val::Text(left), Val::Text(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        _ => return Err(Stop::Fail),
    };
    // Floats are never NaN, so there is always an order.
    let order = order.ok_or(Stop::Ask)?;
    Ok(match op {
        Op::Gt => order.is_gt(),
        Op::Ge => order.is_ge(),
        Op::Lt => order.is_lt(),
        _ => order.is_le(),
    })
}

/// Integers wrap, and what is no number is an error.
#[inline]
pub(super) fn arithmetic<'a>(op: Op, left: Val<'a>, right: Val<'a>) -> Result<Val<'a>, Stop> {
    if matches!(op, Op::Div | Op::Rem) && matches!(right, Val::Int(0) | Val::Float(0.0)) {
        return Err(Stop::Fail);
    }
    let (a, b) = match (left, right) {
        (Val::Int(left), Val::Int(right)) => {
            return match op {
                Op::Add => Ok(Val::Int(left.wrapping_add(right))),
                Op::Sub => Ok(Val::Int(left.wrapping_sub(right))),
                Op::Mul => Ok(Val::Int(left.wrapping_mul(right))),
                Op::Rem => Ok(Val::Int(left.wrapping_rem(right))),
                _ => float(left as f64 / right as f64),
            };
        }
        (Val::Int(left), Val::Float(right)) => (left as f64, right),
        (Val::Float(left), Val::Int(right)) => (left, right as f64),
        (Val::Float(left), Val::Float(right)) => (left, right),
        (Val::Text(_), Val::Int(_)) | (Val::Int(_), Val::Text(_)) => return repeat_is_rare(op),
        _ => return Err(Stop::Fail),
    };
    float(match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Rem => a % b,
        _ => a / b,
    })
}

#[inline]
fn float<'a>(number: f64) -> Result<Val<'a>, Stop> {
    if number.is_nan() { Err(Stop::Fail) } else { Ok(Val::Float(number)) }
}
