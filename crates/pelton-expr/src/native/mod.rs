//! The hot part of VRL, run over the bytes of a record.
//!
//! A program of paths, literals, comparisons, arithmetic, conditions, assignments of members and common functions is
//! built from VRL's own syntax tree into [`Expr`], after VRL's compiler has passed it. Texts are slices of the record,
//! numbers are decoded when they are read, and what is made on the way lies in an arena that is emptied between records.
//!
//! Nothing here has a meaning of its own. A program with any part that is not listed here is left to VRL as a whole, and
//! so is every record that fails, or that holds something odd where the program reads it (see [`Stop`]): VRL then finds
//! the outcome, or the words of the error.

mod build;
mod eval;
mod functions;
mod text;
mod val;

use crate::{index::Found, splice::Renewed};
use bumpalo::Bump;
use eval::Env;
use functions::Function;
use val::Val;

/// A program that runs without VRL.
#[derive(Debug)]
pub(crate) struct Native {
    body: Vec<Expr>,
    /// Variables it sets.
    locals: usize,
    /// It changes the record.
    writes: bool,
}

/// One expression.
#[derive(Debug, PartialEq)]
enum Expr {
    /// A literal.
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A member of the record, by slot.
    Field(usize),
    /// A variable.
    Local(usize),
    /// A place within a value.
    Within(Box<Expr>, Vec<Step>),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// `??`
    Otherwise(Box<Expr>, Box<Expr>),
    Binary(Op, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    /// All in order, the last one gives the value.
    Block(Vec<Expr>),
    Object(Vec<(String, Expr)>),
    Array(Vec<Expr>),
    Assign(To, Box<Expr>),
    /// `ok, err = ...`
    Try(To, To, Box<Expr>),
    Delete(usize),
    /// Whether a member, and a place within it, is there.
    Exists(usize, Vec<Step>),
    Call(Function, Vec<Expr>),
    Abort,
}

/// What an assignment sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Nothing,
    Field(usize),
    Local(usize),
    Root,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    /// From the end when negative.
    Index(isize),
}

/// What joins two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// Why an expression gives no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// It fails in VRL too: `??` goes on, and otherwise VRL is asked for the error.
    Fail,
    /// `abort`
    Abort,
    /// This is for VRL to decide, whatever stands around it.
    Ask,
}

/// What a program made of a record; `None` where one is returned: ask VRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Appended.
    Written,
    /// As it came.
    Unchanged,
    /// Given up by the program.
    Aborted,
}

impl Native {
    /// The answer of a condition.
    #[inline]
    pub(crate) fn judge(&self, bytes: &[u8], found: Found<'_>, arena: &mut Bump) -> Option<bool> {
        arena.reset();
        let mut env = Env::new(self, bytes, found, arena);
        match env.block(&self.body) {
            Ok(Val::Bool(answer)) => Some(answer),
            Err(Stop::Abort) => Some(false),
            _ => None,
        }
    }

    /// Change a record; the new one is appended to `out`, which is as before where nothing is written.
    #[inline]
    pub(crate) fn change(
        &self,
        bytes: &[u8],
        found: Found<'_>,
        arena: &mut Bump,
        out: &mut Vec<u8>,
        renewed: Option<&mut Renewed>,
    ) -> Option<Change> {
        arena.reset();
        let mut env = Env::new(self, bytes, found, arena);
        for expr in &self.body {
            match env.unused(expr) {
                Ok(()) => {}
                Err(Stop::Abort) => return Some(Change::Aborted),
                Err(_) => return None,
            }
        }
        if !env.is_changed() {
            return Some(Change::Unchanged);
        }
        let start = out.len();
        if env.write(out, renewed).is_err() {
            out.truncate(start);
            return None;
        }
        Some(Change::Written)
    }
}
