//! What is known of a record's fields, in VRL's terms and back, and reads of fields that are not known.

use crate::diagnose::CompileError;
use pelton_types::{
    schema::{Field, FieldKind, RecordSchema},
    suggest::nearest,
};
use std::{collections::BTreeMap, ops::Range};
use vrl::{
    compiler::state::ExternalEnv,
    parser::ast::{
        Assignment, AssignmentTarget, Container, Expr, FunctionCall, Ident, IfStatement, Node, Predicate,
        Query, QueryTarget, RootExpr, Unary,
    },
    path::{OwnedSegment, PathPrefix},
    value::{Kind, kind::Collection},
};

/// Most names that a hint lists.
const MOST_NAMES: usize = 12;
/// Functions that take a path without reading what is there.
const PATH_FUNCTIONS: [&str; 2] = ["del", "exists"];

/// What a program is compiled against.
pub(crate) fn environment(schema: Option<&RecordSchema>) -> ExternalEnv {
    match schema {
        None => ExternalEnv::default(),
        Some(schema) => {
            ExternalEnv::new_with_kind(object(schema, Kind::any()), Kind::object(Collection::any()))
        }
    }
}

fn object(schema: &RecordSchema, unknown: Kind) -> Kind {
    let known = schema.fields.iter().map(|(name, field)| (name.as_str().into(), kind(field))).collect();
    Kind::object(Collection::from_parts(known, unknown))
}

fn kind(field: &Field) -> Kind {
    let kind = match &field.kind {
        FieldKind::Any => Kind::json(),
        FieldKind::Boolean => Kind::boolean(),
        FieldKind::Integer => Kind::integer(),
        FieldKind::Float => Kind::float(),
        // A time is the text it came as: a program parses it when it needs the time.
        FieldKind::String | FieldKind::Timestamp => Kind::bytes(),
        FieldKind::Array(items) => Kind::array(Collection::from_unknown(kind(items))),
        FieldKind::Object(schema) => object(schema, Kind::any()),
    };
    if field.optional { kind.or_null().or_undefined() } else { kind }
}

/// What is known of a record after a program. `before` tells a time from another text where the program left it alone.
pub(crate) fn schema(source: &str, kind: &Kind, before: Option<&RecordSchema>) -> Option<RecordSchema> {
    let collection = kind.as_object().filter(|_| kind.is_object())?;
    // Without a schema to begin with only a record that was made anew is known in full.
    if before.is_none() && !collection.unknown_kind().is_undefined() {
        return None;
    }
    let mut known = fields(collection, before);
    // To VRL a removed field of an open object may be anything.
    for name in removed(source) {
        if collection.known().get(&name.as_str().into()).is_some_and(Kind::is_any) {
            known.fields.remove(&name);
        }
    }
    Some(known)
}

/// Fields that a program removes on each of its ways: `del(.a)` as a line of its own, or `x = del(.a)`.
fn removed(source: &str) -> Vec<String> {
    let Ok(ast) = vrl::parser::parse(source) else { return Vec::new() };
    let mut names = Vec::new();
    for root in ast.0 {
        let RootExpr::Expr(expr) = root.into_inner() else { continue };
        let expr = match expr.into_inner() {
            Expr::Assignment(assignment) => match assignment.into_inner() {
                Assignment::Single { expr, .. } => expr.into_inner(),
                Assignment::Infallible { .. } => continue,
            },
            other => other,
        };
        let Expr::FunctionCall(call) = expr else { continue };
        let call = call.into_inner();
        let Some(argument) = call.arguments.into_iter().next() else { continue };
        let Expr::Query(query) = argument.into_inner().expr.into_inner() else { continue };
        if *call.ident.inner() == Ident::new("del")
            && let [OwnedSegment::Field(name)] = query.into_inner().path.into_inner().segments.as_slice()
        {
            names.push(name.to_string());
        }
    }
    names
}

fn fields(collection: &Collection<vrl::value::kind::Field>, before: Option<&RecordSchema>) -> RecordSchema {
    let mut fields = BTreeMap::new();
    for (name, kind) in collection.known() {
        let name = name.to_string();
        if !kind.is_undefined() && !kind.is_never() {
            let was = before.and_then(|schema| schema.fields.get(&name));
            fields.insert(name, field(kind, was));
        }
    }
    // A record that was made anew has the fields that it was given.
    let open = before.is_some_and(|schema| schema.open) && !collection.unknown_kind().is_undefined();
    RecordSchema { fields, open }
}

fn field(found: &Kind, before: Option<&Field>) -> Field {
    if let Some(same) = before.filter(|field| kind(field) == *found) {
        return same.clone();
    }
    let optional = found.contains_undefined() || found.contains_null();
    let mut plain = found.without_undefined();
    plain.remove_null();
    let kind = if plain.is_boolean() {
        FieldKind::Boolean
    } else if plain.is_integer() {
        FieldKind::Integer
    } else if plain.is_float() {
        FieldKind::Float
    } else if plain.is_bytes() {
        FieldKind::String
    } else if plain.is_timestamp() {
        FieldKind::Timestamp
    } else if let Some(items) = plain.as_array().filter(|_| plain.is_array()) {
        FieldKind::Array(Box::new(field(&items.reduced_kind().without_undefined(), None)))
    } else if let Some(members) = plain.as_object().filter(|_| plain.is_object()) {
        let before = match before.map(|field| &field.kind) {
            Some(FieldKind::Object(schema)) => Some(schema),
            _ => None,
        };
        FieldKind::Object(fields(members, before))
    } else {
        FieldKind::Any
    };
    Field { kind, optional }
}

/// Reads of fields that a schema does not have. `del` and `exists` may name any field, and what a program assigns it
/// may read.
pub(crate) fn unknown_fields(source: &str, schema: Option<&RecordSchema>) -> Vec<CompileError> {
    let Some(schema) = schema else { return Vec::new() };
    let Ok(ast) = vrl::parser::parse(source) else { return Vec::new() };
    let mut reads = Reads::default();
    for root in ast.0 {
        if let RootExpr::Expr(expr) = root.into_inner() {
            reads.expr(expr);
        }
    }
    let Reads { read, assigned } = reads;
    let unknown = read.iter().filter(|(_, path)| !assigned.iter().any(|first| path.first() == Some(first)));
    unknown.filter_map(|(span, path)| unknown_field(span, path, schema)).collect()
}

fn unknown_field(span: &Range<usize>, path: &[OwnedSegment], schema: &RecordSchema) -> Option<CompileError> {
    let mut at = schema;
    let mut shown = String::new();
    for segment in path {
        let OwnedSegment::Field(name) = segment else { return None };
        let Some(field) = at.fields.get(name.as_str()) else {
            if at.open {
                return None;
            }
            let parent = std::mem::take(&mut shown);
            let names: Vec<String> = at.fields.keys().map(|known| format!("{parent}.{known}")).collect();
            let path = format!("{parent}.{name}");
            return Some(CompileError {
                span: span.clone(),
                message: format!("unknown field `{path}`"),
                hint: Some(advice(&path, &names)),
            });
        };
        shown.push_str(&format!(".{name}"));
        match &field.kind {
            FieldKind::Object(inner) if !inner.is_empty() => at = inner,
            _ => return None,
        }
    }
    None
}

fn advice(path: &str, names: &[String]) -> String {
    let near = nearest(path, names.iter().map(String::as_str));
    let name = path.rsplit('.').next().unwrap_or(path);
    match near {
        Some(near) => format!("did you mean `{near}`? Otherwise add `{name}?: any` to the `schema`"),
        None => {
            let listed: Vec<String> = names.iter().take(MOST_NAMES).map(|n| format!("`{n}`")).collect();
            format!("the schema has {}; add `{name}?: any` to it, or another type", listed.join(", "))
        }
    }
}

/// Paths that a program reads and fields it assigns.
#[derive(Default)]
struct Reads {
    read: Vec<(Range<usize>, Vec<OwnedSegment>)>,
    assigned: Vec<OwnedSegment>,
}

impl Reads {
    fn expr(&mut self, expr: Node<Expr>) {
        match expr.into_inner() {
            Expr::Literal(_) | Expr::Variable(_) => {}
            Expr::Container(container) => self.container(container.into_inner()),
            Expr::IfStatement(statement) => self.if_statement(statement.into_inner()),
            Expr::Op(op) => {
                let op = op.into_inner();
                self.expr(*op.0);
                self.expr(*op.2);
            }
            Expr::Assignment(assignment) => self.assignment(assignment.into_inner()),
            Expr::Query(query) => {
                let span = query.span().range();
                self.query(span, query.into_inner());
            }
            Expr::FunctionCall(call) => self.call(call.into_inner()),
            Expr::Unary(unary) => {
                let Unary::Not(not) = unary.into_inner();
                self.expr(*not.into_inner().take().1);
            }
            Expr::Abort(abort) => abort.into_inner().message.into_iter().for_each(|expr| self.expr(*expr)),
            Expr::Return(returned) => self.expr(*returned.into_inner().expr),
            Expr::Break(_) => {}
        }
    }

    fn all(&mut self, exprs: impl IntoIterator<Item = Node<Expr>>) {
        exprs.into_iter().for_each(|expr| self.expr(expr));
    }

    fn container(&mut self, container: Container) {
        match container {
            Container::Group(group) => self.expr(group.into_inner().into_inner()),
            Container::Block(block) => self.all(block.into_inner()),
            Container::Array(array) => self.all(array.into_inner()),
            Container::Object(object) => self.all(object.into_inner().into_iter().map(|(_, expr)| expr)),
        }
    }

    fn if_statement(&mut self, statement: IfStatement) {
        match statement.predicate.into_inner() {
            Predicate::One(expr) => self.expr(*expr),
            Predicate::Many(exprs) => self.all(exprs),
        }
        self.all(statement.if_node.into_inner());
        self.all(statement.else_node.into_iter().flat_map(Node::into_inner));
    }

    fn assignment(&mut self, assignment: Assignment) {
        match assignment {
            Assignment::Single { target, expr, .. } => {
                self.target(target.into_inner());
                self.expr(*expr);
            }
            Assignment::Infallible { ok, err, expr, .. } => {
                self.target(ok.into_inner());
                self.target(err.into_inner());
                self.expr(*expr);
            }
        }
    }

    fn target(&mut self, target: AssignmentTarget) {
        let path = match target {
            AssignmentTarget::External(Some(path)) => path.path,
            AssignmentTarget::Query(query) => query.path.into_inner(),
            _ => return,
        };
        self.assigned.extend(path.segments.first().cloned());
    }

    fn query(&mut self, span: Range<usize>, query: Query) {
        match query.target.into_inner() {
            QueryTarget::External(PathPrefix::Event) => {
                self.read.push((span, query.path.into_inner().segments));
            }
            QueryTarget::External(PathPrefix::Metadata) | QueryTarget::Internal(_) => {}
            QueryTarget::FunctionCall(call) => self.call(call),
            QueryTarget::Container(container) => self.container(container),
        }
    }

    fn call(&mut self, call: FunctionCall) {
        let takes_path = PATH_FUNCTIONS.iter().any(|name| Ident::new(*name) == *call.ident.inner());
        for argument in call.arguments {
            let expr = argument.into_inner().expr;
            if !(takes_path && matches!(expr.inner(), Expr::Query(_))) {
                self.expr(expr);
            }
        }
        self.all(call.closure.into_iter().flat_map(|closure| closure.into_inner().block.into_inner()));
    }
}
