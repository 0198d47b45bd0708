//! From VRL's syntax tree, if the program has nothing else in it.

use super::{Expr, Native, Op, Step, To, functions::Function};
use vrl::{
    parser::ast::{self, Assignment, AssignmentOp, AssignmentTarget, Container, Literal, Opcode, Predicate},
    path::{OwnedSegment, OwnedValuePath, PathPrefix},
    value::KeyString,
};

/// Members of an object literal whose names are looked for again.
const MANY: usize = 64;

impl Native {
    /// The program of this source, if all of it can run here; `members` are the slots. VRL's compiler has passed it.
    pub(crate) fn of(source: &str, members: &[KeyString]) -> Option<Native> {
        let program = vrl::parser::parse(source).ok()?;
        let mut builder = Builder { members, locals: Vec::new(), writes: false, rooted: false, depth: 0 };
        let mut body = Vec::new();
        for root in &program.0 {
            match root.inner() {
                ast::RootExpr::Expr(expr) => body.push(builder.top(expr.inner())?),
                ast::RootExpr::Error(_) => return None,
            }
        }
        (!body.is_empty()).then_some(Native { body, locals: builder.locals.len(), writes: builder.writes })
    }
}

struct Builder<'m> {
    members: &'m [KeyString],
    /// Names of variables, by place. VRL's compiler has seen to their scopes.
    locals: Vec<String>,
    writes: bool,
    /// The whole record was replaced: what comes behind must not look at it.
    rooted: bool,
    /// Expressions around the one in hand.
    depth: u32,
}

/// Expressions within expressions: VRL's parser takes more, but nobody writes them by hand, and the stack is finite.
const DEEPEST: u32 = 64;

impl Builder<'_> {
    /// A line of the program. Only here the whole record may be replaced.
    fn top(&mut self, expr: &ast::Expr) -> Option<Expr> {
        if let ast::Expr::Assignment(assignment) = expr
            && let Assignment::Single { target, op: AssignmentOp::Assign, expr } = assignment.inner()
            && is_root(target.inner())
        {
            let value = self.boxed(expr.inner())?;
            self.rooted = true;
            self.writes = true;
            return Some(Expr::Assign(To::Root, value));
        }
        self.expr(expr)
    }

    fn boxed(&mut self, expr: &ast::Expr) -> Option<Box<Expr>> {
        self.expr(expr).map(Box::new)
    }

    fn expr(&mut self, expr: &ast::Expr) -> Option<Expr> {
        self.depth += 1;
        let built = if self.depth > DEEPEST { None } else { self.any(expr) };
        self.depth -= 1;
        built
    }

    fn any(&mut self, expr: &ast::Expr) -> Option<Expr> {
        match expr {
            ast::Expr::Literal(literal) => self::literal(literal.inner()),
            ast::Expr::Container(container) => self.container(container.inner()),
            ast::Expr::IfStatement(statement) => self.condition(statement.inner()),
            ast::Expr::Op(op) => self.op(op.inner()),
            ast::Expr::Assignment(assignment) => self.assignment(assignment.inner()),
            ast::Expr::Query(query) => self.query(query.inner()),
            ast::Expr::FunctionCall(call) => self.call(call.inner()),
            ast::Expr::Variable(name) => Some(Expr::Local(self.local(name.inner()))),
            ast::Expr::Unary(unary) => match unary.inner() {
                ast::Unary::Not(not) => {
                    let (_, inner) = not.inner().clone().take();
                    Some(Expr::Not(self.boxed(inner.inner())?))
                }
            },
            ast::Expr::Abort(abort) => abort.inner().message.is_none().then_some(Expr::Abort),
            ast::Expr::Return(_) | ast::Expr::Break(_) => None,
        }
    }

    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e ast::Expr>) -> Option<Vec<Expr>> {
        exprs.into_iter().map(|expr| self.expr(expr)).collect()
    }

    fn block(&mut self, block: &ast::Block) -> Option<Expr> {
        let mut body = self.all(block.0.iter().map(ast::Node::inner))?;
        match body.len() {
            0 => None,
            1 => body.pop(),
            _ => Some(Expr::Block(body)),
        }
    }

    fn container(&mut self, container: &Container) -> Option<Expr> {
        match container {
            Container::Group(group) => self.expr(group.inner().0.inner()),
            Container::Block(block) => self.block(block.inner()),
            Container::Array(array) => {
                let items: Vec<_> = array.inner().clone().into_iter().map(ast::Node::into_inner).collect();
                self.all(&items).map(Expr::Array)
            }
            Container::Object(object) => {
                let mut members = Vec::new();
                for (name, value) in object.inner().clone() {
                    members.push((name.into_inner(), self.expr(value.inner())?));
                }
                // The tree is ordered by name, and the map that VRL builds too; a name that comes twice is for VRL.
                let rising = members.windows(2).all(|pair| pair[0].0 < pair[1].0);
                (rising && members.len() <= MANY).then_some(Expr::Object(members))
            }
        }
    }

    fn condition(&mut self, statement: &ast::IfStatement) -> Option<Expr> {
        let condition = match statement.predicate.inner() {
            Predicate::One(expr) => self.expr(expr.inner())?,
            Predicate::Many(_) => return None,
        };
        let then = self.block(statement.if_node.inner())?;
        let other = match &statement.else_node {
            Some(block) => self.block(block.inner())?,
            None => Expr::Null,
        };
        Some(Expr::If(Box::new(condition), Box::new(then), Box::new(other)))
    }

    fn op(&mut self, op: &ast::Op) -> Option<Expr> {
        let (left, right) = (self.boxed(op.0.inner())?, self.boxed(op.2.inner())?);
        let op = match op.1.inner() {
            Opcode::And => return Some(Expr::And(left, right)),
            Opcode::Or => return Some(Expr::Or(left, right)),
            Opcode::Err => return Some(Expr::Otherwise(left, right)),
            Opcode::Eq => Op::Eq,
            Opcode::Ne => Op::Ne,
            Opcode::Gt => Op::Gt,
            Opcode::Ge => Op::Ge,
            Opcode::Lt => Op::Lt,
            Opcode::Le => Op::Le,
            Opcode::Add => Op::Add,
            Opcode::Sub => Op::Sub,
            Opcode::Mul => Op::Mul,
            Opcode::Div => Op::Div,
            Opcode::Merge => return None,
        };
        Some(Expr::Binary(op, left, right))
    }

    fn assignment(&mut self, assignment: &Assignment) -> Option<Expr> {
        match assignment {
            Assignment::Single { target, op: AssignmentOp::Assign, expr } => {
                let value = self.boxed(expr.inner())?;
                Some(Expr::Assign(self.target(target.inner())?, value))
            }
            Assignment::Infallible { ok, err, op: AssignmentOp::Assign, expr } => {
                let value = self.boxed(expr.inner())?;
                Some(Expr::Try(self.target(ok.inner())?, self.target(err.inner())?, value))
            }
            _ => None,
        }
    }

    fn target(&mut self, target: &AssignmentTarget) -> Option<To> {
        match target {
            AssignmentTarget::Noop => Some(To::Nothing),
            AssignmentTarget::Internal(name, None) => Some(To::Local(self.local(name))),
            AssignmentTarget::Internal(..) => None,
            AssignmentTarget::External(path) => {
                let path = path.as_ref().filter(|path| path.prefix == PathPrefix::Event)?;
                self.written(&path.path)
            }
            AssignmentTarget::Query(query) => match query.target.inner() {
                ast::QueryTarget::External(PathPrefix::Event) => self.written(query.path.inner()),
                ast::QueryTarget::Internal(name) if query.path.inner().is_root() => {
                    Some(To::Local(self.local(name)))
                }
                _ => None,
            },
        }
    }

    /// A member that is set as a whole.
    fn written(&mut self, path: &OwnedValuePath) -> Option<To> {
        let (slot, steps) = self.slot(path)?;
        self.writes = true;
        steps.is_empty().then_some(To::Field(slot))
    }

    fn query(&mut self, query: &ast::Query) -> Option<Expr> {
        let path = query.path.inner();
        let from = match query.target.inner() {
            ast::QueryTarget::External(PathPrefix::Event) => {
                let (slot, steps) = self.slot(path)?;
                return Some(if steps.is_empty() {
                    Expr::Field(slot)
                } else {
                    Expr::Within(Box::new(Expr::Field(slot)), steps)
                });
            }
            ast::QueryTarget::External(PathPrefix::Metadata) => return None,
            ast::QueryTarget::Internal(name) => Expr::Local(self.local(name)),
            ast::QueryTarget::FunctionCall(call) => self.call(call)?,
            ast::QueryTarget::Container(container) => self.container(container)?,
        };
        Some(Expr::Within(Box::new(from), steps(&path.segments)))
    }

    /// The slot of a path and what comes behind its first name.
    fn slot(&self, path: &OwnedValuePath) -> Option<(usize, Vec<Step>)> {
        let (OwnedSegment::Field(name), rest) = path.segments.split_first()? else { return None };
        let slot = self.members.iter().position(|member| member == name).filter(|_| !self.rooted)?;
        Some((slot, steps(rest)))
    }

    fn local(&mut self, name: &str) -> usize {
        self.locals.iter().position(|known| known == name).unwrap_or_else(|| {
            self.locals.push(name.to_owned());
            self.locals.len() - 1
        })
    }

    fn call(&mut self, call: &ast::FunctionCall) -> Option<Expr> {
        let plain = call.closure.is_none() && call.arguments.iter().all(|a| a.inner().ident.is_none());
        let name: &str = call.ident.inner();
        let arguments: Vec<&ast::Expr> = call.arguments.iter().map(|a| a.inner().expr.inner()).collect();
        match (name, arguments.as_slice()) {
            _ if !plain => None,
            ("exists" | "del", [ast::Expr::Query(query)]) => {
                let ast::QueryTarget::External(PathPrefix::Event) = query.inner().target.inner() else {
                    return None;
                };
                let (slot, steps) = self.slot(query.inner().path.inner())?;
                if name == "exists" {
                    return Some(Expr::Exists(slot, steps));
                }
                self.writes = true;
                steps.is_empty().then_some(Expr::Delete(slot))
            }
            _ => {
                let function = Function::of(name, arguments.len())?;
                let arguments = self.all(arguments)?;
                // Functions differ in the order they look at their arguments.
                let ordered = arguments.len() == 1 || arguments.iter().all(is_pure);
                ordered.then_some(Expr::Call(function, arguments))
            }
        }
    }
}

fn is_root(target: &AssignmentTarget) -> bool {
    match target {
        AssignmentTarget::External(None) => true,
        AssignmentTarget::External(Some(path)) => path.prefix == PathPrefix::Event && path.path.is_root(),
        AssignmentTarget::Query(query) => {
            matches!(query.target.inner(), ast::QueryTarget::External(PathPrefix::Event))
                && query.path.inner().is_root()
        }
        _ => false,
    }
}

fn steps(segments: &[OwnedSegment]) -> Vec<Step> {
    let step = |segment: &OwnedSegment| match segment {
        OwnedSegment::Field(name) => Step::Field(name.to_string()),
        OwnedSegment::Index(index) => Step::Index(*index),
    };
    segments.iter().map(step).collect()
}

fn literal(literal: &Literal) -> Option<Expr> {
    match literal {
        Literal::String(text) => text.as_literal_string().map(|text| Expr::Text(text.to_owned())),
        Literal::RawString(text) => Some(Expr::Text(text.clone())),
        Literal::Integer(value) => Some(Expr::Int(*value)),
        Literal::Float(value) => Some(Expr::Float(value.into_inner())),
        Literal::Boolean(value) => Some(Expr::Bool(*value)),
        Literal::Null => Some(Expr::Null),
        Literal::Regex(_) | Literal::Timestamp(_) => None,
    }
}

/// Whether it changes nothing and always comes to an end of its own.
fn is_pure(expr: &Expr) -> bool {
    match expr {
        Expr::Null | Expr::Bool(_) | Expr::Int(_) | Expr::Float(_) | Expr::Text(_) => true,
        Expr::Field(_) | Expr::Local(_) | Expr::Exists(..) => true,
        Expr::Within(inner, _) | Expr::Not(inner) => is_pure(inner),
        Expr::And(left, right) | Expr::Or(left, right) | Expr::Otherwise(left, right) => {
            is_pure(left) && is_pure(right)
        }
        Expr::Binary(_, left, right) => is_pure(left) && is_pure(right),
        Expr::Array(items) | Expr::Call(_, items) => items.iter().all(is_pure),
        Expr::Object(members) => members.iter().all(|(_, value)| is_pure(value)),
        Expr::If(..) | Expr::Block(_) | Expr::Assign(..) | Expr::Try(..) | Expr::Delete(_) | Expr::Abort => {
            false
        }
    }
}
