#![doc = include_str!("../README.md")]

use pelton_expr::{Fields, Program, Scratch};
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError, Verdicts, types::Batch,
};
use serde_json::Value;

/// Makes `filter` operators.
#[derive(Debug, Default)]
pub struct FilterFactory;

impl OperatorFactory for FilterFactory {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn summary(&self) -> &'static str {
        "keeps the records a VRL condition is true for"
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "A VRL condition that gives a boolean; records it is false for are dropped.",
            "examples": [".price > 1000", "length(array!(.pixels)) == 64"],
        })
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let output = context.input.clone();
        let program = compile(options, context)?;
        let members = program.members().map(str::to_owned).collect();
        Ok(OperatorShape { output, members, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let mut program = compile(options, context)?;
        let fields = Fields::of(&mut [&mut program], context.fields.as_ref());
        Ok(Box::new(Filter { program, fields, scratch: Scratch::default(), verdicts: Verdicts::default() }))
    }
}

fn compile(options: &Value, context: &BuildContext) -> Result<Program, Vec<OptionError>> {
    let Value::String(source) = options else {
        let error = OptionError::at("", format!("expected a VRL condition as text, got {options}"));
        return Err(vec![error.hint("put it in quotes: `filter: \".price > 1000\"`")]);
    };
    Program::compile_filter_for(source, context.input.as_deref()).map_err(|mistakes| {
        let error = |m: pelton_expr::CompileError| OptionError {
            pointer: String::new(),
            span: Some(m.span),
            message: m.message,
            hint: m.hint,
        };
        mistakes.into_iter().map(error).collect()
    })
}

struct Filter {
    program: Program,
    fields: Fields,
    scratch: Scratch,
    verdicts: Verdicts,
}

impl Operator for Filter {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        self.verdicts.begin();
        self.fields.begin(&mut batch);
        for record in &batch.records {
            let located = self.fields.locate(record, batch.value(record));
            let verdict = located.and_then(|located| self.program.judge(&mut self.scratch, &located));
            if verdict == Ok(true) {
                self.fields.keep(record);
            }
            self.verdicts.note(verdict);
        }
        self.fields.end(&mut batch);
        self.verdicts.settle(batch, out);
    }
}
