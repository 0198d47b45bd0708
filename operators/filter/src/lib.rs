#![doc = include_str!("../README.md")]

use pelton_expr::{Program, Scratch};
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
        compile(options, context).map(|_| OperatorShape { output, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let program = compile(options, context)?;
        Ok(Box::new(Filter { program, scratch: Scratch::default(), verdicts: Verdicts::default() }))
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
    scratch: Scratch,
    verdicts: Verdicts,
}

impl Operator for Filter {
    fn process(&mut self, batch: Batch, out: &mut Collector) {
        self.verdicts.begin();
        for record in &batch.records {
            self.verdicts.note(self.program.run_filter(&mut self.scratch, batch.value(record)));
        }
        self.verdicts.settle(batch, out);
    }
}
