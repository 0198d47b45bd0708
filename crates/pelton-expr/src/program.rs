//! Programs: compiled once, run over each record.

use crate::{
    diagnose::{self, CompileError},
    native::Native,
    typed,
};
use pelton_types::RecordSchema;
use std::sync::{Arc, LazyLock};
use vrl::{
    compiler::{CompilationResult, CompileConfig, Function, compile_with_external},
    path::{OwnedSegment, OwnedTargetPath, PathPrefix},
    value::KeyString,
};

/// Left out: they block on the network, leave the worker's sandbox, or flood its log.
pub(crate) const LEFT_OUT: [&str; 6] =
    ["dns_lookup", "reverse_dns", "http_request", "get_env_var", "get_hostname", "log"];

static FUNCTIONS: LazyLock<Vec<Box<dyn Function>>> = LazyLock::new(|| {
    let mut all = vrl::stdlib::all();
    all.retain(|f| !LEFT_OUT.contains(&f.identifier()));
    all
});

/// Names of all functions that a program may call.
pub(crate) fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.identifier())
}

/// A function as it is called: `split(value, pattern, [limit])`.
pub(crate) fn signature(name: &str) -> Option<String> {
    let function = FUNCTIONS.iter().find(|function| function.identifier() == name)?;
    let parameter = |p: &vrl::compiler::Parameter| match p.required {
        true => p.keyword.to_owned(),
        false => format!("[{}]", p.keyword),
    };
    Some(format!("{name}({})", function.parameters().iter().map(parameter).collect::<Vec<_>>().join(", ")))
}

/// A compiled program. Cheap to clone, and free of state: what changes from record to record is in a [`Scratch`].
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) inner: Arc<Inner>,
    pub(crate) layout: Arc<Layout>,
    /// Most records are answered without VRL, where the program allows.
    fast: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) source: String,
    pub(crate) program: vrl::compiler::Program,
    /// Bytes before the user's program in what was compiled.
    pub(crate) shift: usize,
    /// It was compiled as `_, error = { SOURCE }`, whose value is the answer or the error's text.
    pub(crate) wrapped: bool,
    /// It sets variables, so they must be cleared between records.
    pub(crate) variables: bool,
    reads: Vec<String>,
    writes: Vec<String>,
    /// What is known of a record after it.
    output: Option<RecordSchema>,
}

/// The slots a program finds its members by.
#[derive(Debug)]
pub(crate) struct Layout {
    /// By slot: its own members, and those of the programs it shares an index with.
    pub(crate) names: Arc<[KeyString]>,
    /// Slots of its own members, in the order it names them.
    pub(crate) own: Vec<usize>,
    /// The same program without VRL, if it is made of the hot part of the language.
    pub(crate) native: Option<Native>,
}

impl Program {
    /// Compile a condition. Where VRL would want an error of the expression handled, it becomes an error of the record.
    ///
    /// # Errors
    /// All mistakes, also: the result is not a boolean, or the record is written to.
    pub fn compile_filter(source: &str) -> Result<Self, Vec<CompileError>> {
        Self::compile_filter_for(source, None)
    }

    /// The same for records of which `schema` is known: reading a field that it does not have is a mistake.
    ///
    /// # Errors
    /// As [`Program::compile_filter`].
    pub fn compile_filter_for(
        source: &str,
        schema: Option<&RecordSchema>,
    ) -> Result<Self, Vec<CompileError>> {
        if is_blank(source) {
            return Err(vec![blank("the condition is empty", "write an expression such as `.price > 1000`")]);
        }
        let unknown = typed::unknown_fields(source, schema);
        let plain = match compile(source, schema, true) {
            Ok(result) if unknown.is_empty() => {
                check_answer(source, &result)?;
                return Self::new(source, schema, result, None);
            }
            Ok(_) => return Err(unknown),
            Err(plain) => plain,
        };
        // Errors that nobody handles are no mistakes here; the others are, and the plain program has their place.
        let mistakes: Vec<_> =
            plain.into_iter().filter(|d| d.is_problem() && !diagnose::is_unhandled(d)).collect();
        if !mistakes.is_empty() || !unknown.is_empty() {
            return Err(with_unknown(unknown, diagnose::mistakes(source, &mistakes.into(), 0)));
        }
        Self::compile_wrapped(source, schema)
    }

    /// Compile `_, error = { SOURCE }`: its value is the answer, or the error's text.
    fn compile_wrapped(source: &str, schema: Option<&RecordSchema>) -> Result<Self, Vec<CompileError>> {
        const CATCH: &str = "_, pelton_error = {\n";
        let result = compile(&format!("{CATCH}{source}\n}}"), schema, true)
            .map_err(|list| diagnose::mistakes(source, &list, CATCH.len()))?;
        // The answer's own type shows in a variable that holds nothing else.
        const KEEP: &str = "pelton_answer, _ = {\n";
        let typed = compile(&format!("{KEEP}{source}\n}}\npelton_answer"), schema, true)
            .map_err(|list| diagnose::mistakes(source, &list, KEEP.len()))?;
        check_answer(source, &typed)?;
        Self::new(source, schema, result, Some(CATCH.len()))
    }

    /// Compile a program that changes records. It is strict VRL: every error must be handled.
    ///
    /// # Errors
    /// All mistakes.
    pub fn compile_map(source: &str) -> Result<Self, Vec<CompileError>> {
        Self::compile_map_for(source, None)
    }

    /// The same for records of which `schema` is known: its fields have types, and reading one that it does not have is
    /// a mistake.
    ///
    /// # Errors
    /// All mistakes.
    pub fn compile_map_for(source: &str, schema: Option<&RecordSchema>) -> Result<Self, Vec<CompileError>> {
        if is_blank(source) {
            return Err(vec![blank(
                "the program is empty",
                "write a program such as `.total = 1` or `del(.extra)`",
            )]);
        }
        let unknown = typed::unknown_fields(source, schema);
        match compile(source, schema, false) {
            Ok(result) if unknown.is_empty() => Self::new(source, schema, result, None),
            Ok(_) => Err(unknown),
            Err(list) => Err(with_unknown(unknown, diagnose::mistakes(source, &list, 0))),
        }
    }

    /// Compile an expression that gives a value and changes nothing, for records of which `schema` is known or nothing. It
    /// is strict VRL: every error must be handled.
    ///
    /// # Errors
    /// All mistakes, also: the record is written to.
    pub fn compile_value(source: &str, schema: Option<&RecordSchema>) -> Result<Self, Vec<CompileError>> {
        if is_blank(source) {
            return Err(vec![blank("the expression is empty", "name a field: `.id`")]);
        }
        let unknown = typed::unknown_fields(source, schema);
        match compile(source, schema, true) {
            Ok(result) if unknown.is_empty() => Self::new(source, schema, result, None),
            Ok(_) => Err(unknown),
            Err(list) => Err(with_unknown(unknown, diagnose::mistakes(source, &list, 0))),
        }
    }

    fn new(
        source: &str,
        schema: Option<&RecordSchema>,
        result: CompilationResult,
        shift: Option<usize>,
    ) -> Result<Self, Vec<CompileError>> {
        let info = result.program.info();
        let mut members: Vec<KeyString> = Vec::new();
        for path in info.target_queries.iter().chain(&info.target_assignments) {
            if path.prefix == PathPrefix::Metadata {
                return Err(vec![CompileError {
                    span: find_metadata(source),
                    message: format!("`{path}` names metadata, which records do not have"),
                    hint: Some("fields of the record are written with a dot: `.name`".to_owned()),
                }]);
            }
            if let Some(OwnedSegment::Field(name)) = path.path.segments.first()
                && !members.contains(name)
            {
                members.push(name.clone());
            }
        }
        let names = |paths: &[OwnedTargetPath]| paths.iter().map(ToString::to_string).collect();
        let layout = Layout {
            native: Native::of(source, &members),
            own: (0..members.len()).collect(),
            names: members.into(),
        };
        let inner = Arc::new(Inner {
            source: source.to_owned(),
            shift: shift.unwrap_or_default(),
            wrapped: shift.is_some(),
            variables: may_assign(source),
            reads: names(&info.target_queries),
            writes: names(&info.target_assignments),
            output: typed::schema(
                source,
                result.program.final_type_info().state.external.target_kind(),
                schema,
            ),
            program: result.program,
        });
        Ok(Self { inner, layout: Arc::new(layout), fast: true })
    }

    /// The same program, run by VRL for every record: what tests and measurements compare with.
    pub fn through_vrl(self) -> Self {
        Self { fast: false, ..self }
    }

    /// The program as it was given.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// Whether it runs without VRL, but for records that fail or are odd where it reads them.
    pub fn is_native(&self) -> bool {
        self.layout.native.is_some()
    }

    #[inline]
    pub(crate) fn native(&self) -> Option<&Native> {
        self.layout.native.as_ref().filter(|_| self.fast)
    }

    /// Top-level members that it names, in the order it names them.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.layout.own.iter().map(|&slot| self.layout.names[slot].as_str())
    }

    /// The same program, for records whose members are found under these names, its own among them.
    pub(crate) fn laid_out(&self, names: &Arc<[KeyString]>) -> Option<Self> {
        let slot = |member: &str| names.iter().position(|name| name.as_str() == member);
        let own = self.members().map(slot).collect::<Option<Vec<_>>>()?;
        let native = Native::of(&self.inner.source, names);
        Some(Self { layout: Arc::new(Layout { names: names.clone(), own, native }), ..self.clone() })
    }

    /// Paths it may read. What `del` removes is among them.
    pub fn reads(&self) -> &[String] {
        &self.inner.reads
    }

    /// Paths it may assign.
    pub fn writes(&self) -> &[String] {
        &self.inner.writes
    }

    /// What is known of a record after it; `None`: nothing.
    pub fn output(&self) -> Option<&RecordSchema> {
        self.inner.output.as_ref()
    }
}

pub(crate) fn compile(
    text: &str,
    schema: Option<&RecordSchema>,
    read_only: bool,
) -> Result<CompilationResult, vrl::diagnostic::DiagnosticList> {
    let mut config = CompileConfig::default();
    if read_only {
        config.set_read_only();
    }
    compile_with_external(text, &FUNCTIONS, &typed::environment(schema), config)
}

/// All mistakes in order; that an error is not handled is none of its own where the field does not exist.
fn with_unknown(unknown: Vec<CompileError>, mut others: Vec<CompileError>) -> Vec<CompileError> {
    others.retain(|other| {
        !unknown.iter().any(|field| other.span.start <= field.span.start && field.span.end <= other.span.end)
    });
    others.extend(unknown);
    others.sort_by_key(|mistake| mistake.span.start);
    others
}

/// A condition has one answer, a boolean; `typed` shows its type.
fn check_answer(source: &str, typed: &CompilationResult) -> Result<(), Vec<CompileError>> {
    let dropped = diagnose::dropped_answers(source);
    if !dropped.is_empty() {
        return Err(dropped);
    }
    let info = typed.program.final_type_info();
    let kind = info.result.kind();
    if kind.is_boolean() || kind.is_never() {
        return Ok(());
    }
    Err(vec![CompileError {
        span: trimmed(source),
        message: format!("a condition must be a boolean, this is {kind}"),
        hint: Some("compare it (`.flag == true`), or say that it is one: `bool!(.flag)`".to_owned()),
    }])
}

/// The program without the blanks around it.
fn trimmed(source: &str) -> std::ops::Range<usize> {
    let start = source.len() - source.trim_start().len();
    start..start + source.trim().len()
}

fn find_metadata(source: &str) -> std::ops::Range<usize> {
    source.find('%').map_or_else(|| trimmed(source), |at| at..at + 1)
}

/// Nothing but blanks and comments.
fn is_blank(source: &str) -> bool {
    source.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'))
}

fn blank(message: &str, hint: &str) -> CompileError {
    CompileError { span: 0..0, message: message.to_owned(), hint: Some(hint.to_owned()) }
}

/// Whether a program may set a variable: any `=` that is not part of a comparison, or a closure. May say yes too often.
fn may_assign(source: &str) -> bool {
    let bytes = source.as_bytes();
    let assigns = |(at, &c): (usize, &u8)| {
        let before = at.checked_sub(1).map(|n| bytes[n]);
        let compares = matches!(before, Some(b'=' | b'!' | b'<' | b'>')) || bytes.get(at + 1) == Some(&b'=');
        c == b'=' && !compares
    };
    bytes.iter().enumerate().any(assigns) || source.contains("->")
}
