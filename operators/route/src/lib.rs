#![doc = include_str!("../README.md")]

mod options;

use options::Choice;
use pelton_expr::{Fields, Located, Program, Scratch, Value as Answer};
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError, types::Batch,
};
use serde_json::Value;

/// Makes `route` operators.
#[derive(Debug, Default)]
pub struct RouteFactory;

impl OperatorFactory for RouteFactory {
    fn name(&self) -> &'static str {
        "route"
    }

    fn summary(&self) -> &'static str {
        "sends records to outputs by VRL conditions or by an expression"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn schema(&self) -> schemars::Schema {
        options::schema()
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let options = options::parse(options, context)?;
        let members = options.choice.programs().flat_map(Program::members).map(str::to_owned).collect();
        let output = context.input.clone();
        Ok(OperatorShape { ports: options.ports, output, members, ..OperatorShape::default() })
    }

    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let mut options = options::parse(options, context)?;
        let mut programs: Vec<_> = options.choice.programs_mut().collect();
        let fields = Fields::of(&mut programs, context.fields.as_ref());
        let judge = match options.choice {
            Choice::Conditions { conditions, mode } => {
                let conditions = conditions.into_iter().map(|c| (c, Scratch::default())).collect();
                Judge::Conditions { conditions, mode }
            }
            Choice::Expression { program, outputs } => {
                Judge::Expression { program, outputs, scratch: Box::default() }
            }
        };
        let ports = vec![Vec::new(); options.ports.len() + 1];
        Ok(Box::new(Route { judge, fields, otherwise: options.otherwise, ports, hits: Vec::new() }))
    }
}

/// How many outputs a record may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    First,
    All,
}

/// Finds the outputs of a record. The output with index 0 of the options is port 1.
enum Judge {
    Conditions { conditions: Vec<(Program, Scratch)>, mode: Mode },
    Expression { program: Program, outputs: Vec<String>, scratch: Box<Scratch> },
}

struct Route {
    judge: Judge,
    fields: Fields,
    /// Port of the records that go nowhere else.
    otherwise: usize,
    /// Indices of the batch in hand, by port.
    ports: Vec<Vec<usize>>,
    /// Ports of the record in hand.
    hits: Vec<usize>,
}

impl Operator for Route {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        self.ports.iter_mut().for_each(Vec::clear);
        self.fields.begin(&mut batch);
        for index in 0..batch.len() {
            self.hits.clear();
            let record = &batch.records[index];
            let Self { judge, fields, hits, .. } = self;
            let located = fields.locate(record, batch.value(record));
            match located.and_then(|located| judge.find(&located, hits)) {
                Ok(()) => {
                    self.fields.keep(record);
                    if self.hits.is_empty() {
                        self.hits.push(self.otherwise);
                    }
                    out.expanded(self.hits.len() - 1);
                    for &port in &self.hits {
                        self.ports[port].push(index);
                    }
                }
                Err(cause) => out.fail(&mut batch, index, cause),
            }
        }
        self.fields.end(&mut batch);
        let whole = self.ports.iter().position(|indices| indices.len() == batch.len());
        for (port, indices) in self.ports.iter().enumerate() {
            // One output takes all, as often: the batch itself goes there, after the copies.
            if !indices.is_empty() && Some(port) != whole {
                out.emit_to(port, batch.subset(indices.iter().copied()));
            }
        }
        if let Some(port) = whole {
            out.emit_to(port, batch);
        }
    }
}

impl Judge {
    /// Find the ports of a record, into `hits`.
    fn find(&mut self, record: &Located<'_>, hits: &mut Vec<usize>) -> Result<(), String> {
        match self {
            Self::Conditions { conditions, mode } => {
                for (n, (condition, scratch)) in conditions.iter_mut().enumerate() {
                    if condition.judge(scratch, record)? {
                        hits.push(n + 1);
                        if *mode == Mode::First {
                            break;
                        }
                    }
                }
            }
            Self::Expression { program, outputs, scratch } => {
                match program.evaluate(scratch, record)? {
                    None | Some(Answer::Null) => {}
                    Some(Answer::Array(names)) => {
                        names.iter().try_for_each(|name| add(name, outputs, hits))?;
                    }
                    Some(name) => add(&name, outputs, hits)?,
                }
                // A list may name an output twice, and in any order.
                hits.sort_unstable();
                hits.dedup();
            }
        }
        Ok(())
    }
}

/// Add the ports that a name stands for.
fn add(name: &Answer, outputs: &[String], hits: &mut Vec<usize>) -> Result<(), String> {
    let Some(text) = name.as_bytes() else {
        return Err(format!("`to` gives {name}, which is no name of an output"));
    };
    if text == "*" {
        hits.extend(1..=outputs.len());
        return Ok(());
    }
    match outputs.iter().position(|output| output.as_bytes() == text) {
        Some(at) => hits.push(at + 1),
        None => {
            let name = String::from_utf8_lossy(text);
            return Err(format!("`to` gives `{name}`, which is none of the outputs {}", outputs.join(", ")));
        }
    }
    Ok(())
}
