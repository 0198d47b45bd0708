//! What to write instead of an expression that can fail, in its own words: only what compiles is proposed.

use crate::program::compile;
use pelton_types::schema::{Field, FieldKind, RecordSchema};
use std::{collections::BTreeMap, ops::Range};
use vrl::{
    parser::ast::{Container, Expr, Opcode, Query, QueryTarget, RootExpr, Unary},
    path::{OwnedSegment, PathPrefix},
};

/// An expression up to here is shown again, mended.
const LONGEST: usize = 60;

/// What the fields of an expression are to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Number,
    Text,
    Boolean,
}

impl Wanted {
    /// VRL's function that makes sure of it.
    fn function(self) -> &'static str {
        match self {
            Wanted::Number => "float",
            Wanted::Text => "string",
            Wanted::Boolean => "bool",
        }
    }

    fn kind(self) -> FieldKind {
        match self {
            Wanted::Number => FieldKind::Float,
            Wanted::Text => FieldKind::String,
            Wanted::Boolean => FieldKind::Boolean,
        }
    }

    /// Its name in a schema.
    fn name(self) -> &'static str {
        match self {
            Wanted::Number => "float",
            Wanted::Text => "string",
            Wanted::Boolean => "boolean",
        }
    }

    /// What may stand for a value that is missing.
    fn default(self) -> &'static str {
        match self {
            Wanted::Number => "0",
            Wanted::Text => "\"\"",
            Wanted::Boolean => "false",
        }
    }
}

/// How to handle the error of this expression.
pub(crate) fn of(culprit: &str) -> String {
    let parsed = (culprit.len() <= LONGEST && !culprit.contains('\n')).then(|| expression(culprit)).flatten();
    let Some(parsed) = parsed else {
        return "`!` behind a function's name fails the record, `?? VALUE` goes on with a default".to_owned();
    };
    let called = called(&parsed, culprit);
    let wanted = match called {
        Some(name) if takes_text(name) => Wanted::Text,
        Some(_) => Wanted::Number,
        None => wanted(&parsed),
    };
    let mut fields = Vec::new();
    operands(&parsed, called.is_some(), &mut fields);
    let strict = match called {
        Some(name) => format!("{name}!{}", &culprit[name.len()..]),
        None => mended(culprit, &fields, wanted),
    };
    let default = match called {
        Some(_) => format!("{culprit} ?? VALUE"),
        None => format!("({culprit}) ?? {}", wanted.default()),
    };
    let mut ways = Vec::new();
    if strict != culprit && compile(&strict, None, false).is_ok() {
        ways.push(format!("`{strict}` fails the record"));
    }
    ways.push(format!("`{default}` goes on with a default"));
    ways.extend(schema(culprit, &fields, wanted).map(|schema| format!("or tell {schema}")));
    ways.join(", ")
}

fn expression(text: &str) -> Option<Expr> {
    let mut roots = vrl::parser::parse(text).ok()?.0.into_iter();
    match (roots.next()?.into_inner(), roots.next()) {
        (RootExpr::Expr(expr), None) => Some(expr.into_inner()),
        _ => None,
    }
}

/// The function, where the expression is a call of one.
fn called<'c>(expr: &Expr, culprit: &'c str) -> Option<&'c str> {
    let Expr::FunctionCall(_) = expr else { return None };
    let name = &culprit[..culprit.find('(')?];
    (!name.ends_with('!')).then_some(name)
}

/// What operators and literals say of the fields beside them.
fn wanted(expr: &Expr) -> Wanted {
    match expr {
        Expr::Literal(literal) if literal.inner().to_string().starts_with('"') => Wanted::Text,
        Expr::Unary(unary) => match unary.inner() {
            Unary::Not(_) => Wanted::Boolean,
        },
        Expr::Op(op) => match op.inner().1.inner() {
            Opcode::And | Opcode::Or => Wanted::Boolean,
            _ => [&op.inner().0, &op.inner().2]
                .into_iter()
                .map(|side| wanted(side.inner()))
                .find(|wanted| *wanted != Wanted::Number)
                .unwrap_or(Wanted::Number),
        },
        Expr::Container(container) => match container.inner() {
            Container::Group(group) => wanted(group.inner().0.inner()),
            _ => Wanted::Number,
        },
        _ => Wanted::Number,
    }
}

/// Paths of the record that operators, or the arguments of the call itself, take.
fn operands(expr: &Expr, arguments: bool, found: &mut Vec<(Range<usize>, Vec<OwnedSegment>)>) {
    match expr {
        Expr::Query(node) => {
            let Query { target, path } = node.inner();
            if matches!(target.inner(), QueryTarget::External(PathPrefix::Event)) {
                found.push((node.span().range(), path.inner().segments.clone()));
            }
        }
        Expr::Op(op) => {
            operands(op.inner().0.inner(), false, found);
            operands(op.inner().2.inner(), false, found);
        }
        Expr::Unary(unary) => match unary.inner() {
            Unary::Not(not) => operands(not.inner().clone().take().1.inner(), false, found),
        },
        Expr::Container(container) => {
            if let Container::Group(group) = container.inner() {
                operands(group.inner().0.inner(), false, found);
            }
        }
        Expr::FunctionCall(call) if arguments => {
            // The first is what a function works on.
            if let Some(first) = call.inner().arguments.first() {
                operands(first.inner().expr.inner(), false, found);
            }
        }
        _ => {}
    }
}

/// The expression with its fields made sure of.
fn mended(culprit: &str, fields: &[(Range<usize>, Vec<OwnedSegment>)], wanted: Wanted) -> String {
    let mut mended = culprit.to_owned();
    for (span, _) in fields.iter().rev() {
        if let Some(path) = culprit.get(span.clone()) {
            mended.replace_range(span.clone(), &format!("{}!({path})", wanted.function()));
        }
    }
    mended
}

/// Types at the source that would do, where they do. A schema names the members of the record itself.
fn schema(culprit: &str, fields: &[(Range<usize>, Vec<OwnedSegment>)], wanted: Wanted) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for (_, path) in fields {
        let [OwnedSegment::Field(name)] = path.as_slice() else { return None };
        if !names.iter().any(|known| *known == name.as_str()) {
            names.push(name.to_string());
        }
    }
    let field = |name: &String| (name.clone(), Field { kind: wanted.kind(), optional: false });
    let known = RecordSchema { fields: names.iter().map(field).collect::<BTreeMap<_, _>>(), open: true };
    if names.is_empty() || compile(culprit, Some(&known), false).is_err() {
        return None;
    }
    let its = if names.len() == 1 { "its type" } else { "their types" };
    let listed: Vec<String> = names.iter().map(|name| format!("{name}: {}", wanted.name())).collect();
    Some(format!("{its} at the source: `schema: {{ {} }}`", listed.join(", ")))
}

/// Functions that take a text first, beside all that parse or decode one.
const OF_TEXTS: [&str; 20] = [
    "camelcase",
    "capitalize",
    "contains",
    "contains_all",
    "downcase",
    "ends_with",
    "find",
    "kebabcase",
    "match",
    "match_any",
    "pascalcase",
    "replace",
    "screamingsnakecase",
    "snakecase",
    "split",
    "starts_with",
    "strip_ansi_escape_codes",
    "strip_whitespace",
    "truncate",
    "upcase",
];

fn takes_text(function: &str) -> bool {
    ["parse_", "decode_"].iter().any(|start| function.starts_with(start)) || OF_TEXTS.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn what_is_proposed_compiles_and_what_would_not_is_left_out() {
        for (culprit, remedy) in [
            (
                ".price * .quantity",
                "`float!(.price) * float!(.quantity)` fails the record, `(.price * .quantity) ?? 0` goes on with a \
                 default, or tell their types at the source: `schema: { price: float, quantity: float }`",
            ),
            // A division may always be one by zero.
            (".d / .e", "`(.d / .e) ?? 0` goes on with a default"),
            (
                ".d / 2",
                "`float!(.d) / 2` fails the record, `(.d / 2) ?? 0` goes on with a default, or tell its type at the \
                 source: `schema: { d: float }`",
            ),
            (
                ".name + \"!\"",
                "`string!(.name) + \"!\"` fails the record, `(.name + \"!\") ?? \"\"` goes on with a default, or tell \
                 its type at the source: `schema: { name: string }`",
            ),
            (
                "!.flag",
                "`!bool!(.flag)` fails the record, `(!.flag) ?? false` goes on with a default, or tell its type at \
                 the source: `schema: { flag: boolean }`",
            ),
            (
                "upcase(.customer)",
                "`upcase!(.customer)` fails the record, `upcase(.customer) ?? VALUE` goes on with a default, or tell \
                 its type at the source: `schema: { customer: string }`",
            ),
            // What a text holds is not known by its type.
            (
                "parse_json(.z)",
                "`parse_json!(.z)` fails the record, `parse_json(.z) ?? VALUE` goes on with a default",
            ),
            (
                ".\"größe 😀\" * 2",
                "`float!(.\"größe 😀\") * 2` fails the record, `(.\"größe 😀\" * 2) ?? 0` goes on with a default, or \
                 tell its type at the source: `schema: { größe 😀: float }`",
            ),
            ("x * 2", "`(x * 2) ?? 0` goes on with a default"),
        ] {
            assert_eq!(of(culprit), remedy, "{culprit}");
        }
    }
}
