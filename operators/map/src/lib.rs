#![doc = include_str!("../README.md")]

use pelton_expr::{Fields, Outcome, Program, Scratch};
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError, Verdicts, types::Batch,
};
use serde_json::Value;
use std::sync::Arc;

/// Makes `map` operators.
#[derive(Debug, Default)]
pub struct MapFactory;

impl OperatorFactory for MapFactory {
    fn name(&self) -> &'static str {
        "map"
    }

    fn summary(&self) -> &'static str {
        "changes records with a VRL program"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "A VRL program that changes the record; `abort` drops it.",
            "examples": ["del(.pixels)", ".priceEur = float!(.price) * 0.908"],
        })
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let program = compile(options, context)?;
        let output = program.output().cloned().map(Arc::new);
        let members = program.members().map(str::to_owned).collect();
        Ok(OperatorShape { output, members, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let mut program = compile(options, context)?;
        let fields = Fields::of(&mut [&mut program], context.fields.as_ref());
        Ok(Box::new(Map { program, fields, scratch: Scratch::default(), verdicts: Verdicts::default() }))
    }
}

fn compile(options: &Value, context: &BuildContext) -> Result<Program, Vec<OptionError>> {
    let Value::String(source) = options else {
        let error = OptionError::at("", format!("expected a VRL program as text, got {options}"));
        return Err(vec![error.hint("put it in quotes, or below `map: |`")]);
    };
    Program::compile_map_for(source, context.input.as_deref()).map_err(|mistakes| {
        let error = |m: pelton_expr::CompileError| OptionError {
            pointer: String::new(),
            span: Some(m.span),
            message: m.message,
            hint: m.hint,
        };
        mistakes.into_iter().map(error).collect()
    })
}

struct Map {
    program: Program,
    fields: Fields,
    scratch: Scratch,
    verdicts: Verdicts,
}

impl Operator for Map {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        self.verdicts.begin();
        batch.seal();
        self.fields.begin_change(&mut batch);
        for index in 0..batch.len() {
            let changed = self.change(&mut batch, index);
            self.verdicts.note(changed.map(|outcome| outcome != Outcome::Aborted));
        }
        self.fields.end(&mut batch);
        self.verdicts.settle(batch, out);
    }
}

impl Map {
    fn change(&mut self, batch: &mut Batch, index: usize) -> Result<Outcome, String> {
        let record = batch.records[index];
        if record.value.is_null() {
            return Ok(Outcome::Unchanged);
        }
        let mut outcome = Outcome::Unchanged;
        let written = batch.rewrite(record.value, |old, new| {
            let mut located = self.fields.locate(&record, Some(old))?;
            outcome = self.program.change(&mut self.scratch, &mut located, new)?;
            Ok::<_, String>(())
        })?;
        match outcome {
            Outcome::Written => {
                batch.records[index].value = written;
                self.fields.keep_changed(&batch.records[index]);
            }
            Outcome::Unchanged => self.fields.keep(&record),
            Outcome::Aborted => {}
        }
        Ok(outcome)
    }
}
