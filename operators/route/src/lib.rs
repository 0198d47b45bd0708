//! Operator `route`: sends records to outputs by VRL conditions.
//!
//! ```yaml
//! operators:
//!   - name: split
//!     route:
//!       routes:
//!         - errors: ".status >= 500"
//!         - slow: ".millis > 1000"
//! sinks:
//!   alarms: { kafka: { topic: alarms }, inputs: [split.errors, split.slow] }
//!   rest: { kafka: { topic: rest }, inputs: [split] }
//! ```
//!
//! | option | value | default |
//! |---|---|---|
//! | `routes` | a list of `name: condition`; a map will do where the order does not count | required |
//! | `mode` | `first`: a record goes where the first true condition says; `all`: to every one that is true | `first` |
//!
//! The operator's own output (`inputs: [split]`) carries the records that no condition is true for. Conditions are those
//! of `filter`; a record that one of them fails on fails as a whole and goes to `onError`. With `first`, conditions behind
//! the first true one are not looked at. With `all`, extra copies count as expanded.

mod options;

use pelton_expr::{Program, Scratch};
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
        "sends records to outputs by VRL conditions"
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn schema(&self) -> schemars::Schema {
        options::schema()
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let options = options::parse(options, context)?;
        Ok(OperatorShape {
            ports: options.routes.into_iter().map(|r| r.name).collect(),
            output: context.input.clone(),
            ..OperatorShape::default()
        })
    }

    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let options = options::parse(options, context)?;
        let conditions =
            options.routes.into_iter().map(|r| (r.condition, Scratch::default())).collect::<Vec<_>>();
        let ports = vec![Vec::new(); conditions.len() + 1];
        Ok(Box::new(Route { mode: options.mode, conditions, ports, hits: Vec::new() }))
    }
}

/// How many outputs a record may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    First,
    All,
}

struct Route {
    mode: Mode,
    conditions: Vec<(Program, Scratch)>,
    /// Indices of the batch in hand, by port.
    ports: Vec<Vec<usize>>,
    /// Ports of the record in hand.
    hits: Vec<usize>,
}

impl Operator for Route {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        self.ports.iter_mut().for_each(Vec::clear);
        for index in 0..batch.len() {
            match self.judge(batch.value(&batch.records[index])) {
                Ok(()) if self.hits.is_empty() => self.ports[0].push(index),
                Ok(()) => {
                    out.expanded(self.hits.len() - 1);
                    for &port in &self.hits {
                        self.ports[port].push(index);
                    }
                }
                Err(cause) => out.fail(&mut batch, index, cause),
            }
        }
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

impl Route {
    /// Find the ports of a record, into `hits`.
    fn judge(&mut self, value: Option<&[u8]>) -> Result<(), String> {
        self.hits.clear();
        for (n, (condition, scratch)) in self.conditions.iter_mut().enumerate() {
            if condition.run_filter(scratch, value)? {
                self.hits.push(n + 1);
                if self.mode == Mode::First {
                    break;
                }
            }
        }
        Ok(())
    }
}
