//! Operators that stand in for those of the pipeline while a test runs.

use pelton_config::tests::{Failure, Stub};
use pelton_runtime::plan::OperatorPlan;
use pelton_sdk::{
    BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError, Registry, Verdicts,
    types::{Batch, Offset, Partition},
};
use serde_json::{Value, json};
use std::time::Instant;

const FAILING: &str = "test-failing";
const ANSWERING: &str = "test-answering";

/// The registry with the stand-ins.
pub fn registry(real: &Registry) -> Registry {
    let with_answers = real.clone().operator(AnsweringFactory(real.clone()));
    with_answers.clone().operator(FailingFactory(with_answers))
}

/// Put an operator of answers in another's place.
pub fn answer(operator: &mut OperatorPlan, stub: &Stub) {
    let options = std::mem::take(&mut operator.options);
    operator.options = json!({ "kind": operator.kind, "options": options, "answers": stub.answers });
    operator.kind = ANSWERING.to_owned();
}

/// Put an operator in front of another that fails on some records.
pub fn fail(operator: &mut OperatorPlan, failure: &Failure) {
    let options = std::mem::take(&mut operator.options);
    operator.options = json!({
        "kind": operator.kind, "options": options, "records": failure.records, "cause": failure.cause,
    });
    operator.kind = FAILING.to_owned();
}

/// The operator that is stood in for, and its options.
fn real<'a>(
    registry: &'a Registry,
    options: &'a Value,
) -> Result<(&'a dyn OperatorFactory, &'a Value), Vec<OptionError>> {
    let kind = options["kind"].as_str().unwrap_or_default();
    match registry.find_operator(kind) {
        Some(factory) => Ok((&**factory, &options["options"])),
        None => Err(vec![OptionError::at("", format!("there is no operator `{kind}`"))]),
    }
}

struct FailingFactory(Registry);

impl OperatorFactory for FailingFactory {
    fn name(&self) -> &'static str {
        FAILING
    }
    fn summary(&self) -> &'static str {
        "fails on chosen records, for tests"
    }
    fn schema(&self) -> schemars::Schema {
        schemars::Schema::default()
    }
    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let (factory, inner) = real(&self.0, options)?;
        factory.check(inner, context)
    }
    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let (factory, inner) = real(&self.0, options)?;
        let indices = options["records"].as_array();
        Ok(Box::new(Failing {
            inner: factory.build(inner, context)?,
            records: indices.map(|all| all.iter().filter_map(Value::as_u64).collect()),
            cause: options["cause"].as_str().unwrap_or_default().to_owned(),
            seen: 0,
        }))
    }
}

struct Failing {
    inner: Box<dyn Operator>,
    /// `None`: all.
    records: Option<Vec<u64>>,
    cause: String,
    seen: u64,
}

impl Operator for Failing {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        let mut keep = Vec::with_capacity(batch.len());
        for index in 0..batch.len() {
            let fails = self.records.as_ref().is_none_or(|records| records.contains(&self.seen));
            self.seen += 1;
            if fails {
                out.fail(&mut batch, index, self.cause.clone());
            }
            keep.push(!fails);
        }
        let mut keep = keep.into_iter();
        batch.records.retain(|_| keep.next() == Some(true));
        if !batch.is_empty() {
            self.inner.process(batch, out);
        }
    }
    fn poll(&mut self, out: &mut Collector) -> Option<Instant> {
        self.inner.poll(out)
    }
    fn flush(&mut self) {
        self.inner.flush();
    }
    fn held(&self) -> u64 {
        self.inner.held()
    }
    fn floor(&self, partition: &Partition) -> Option<Offset> {
        self.inner.floor(partition)
    }
    fn ready(&self) -> bool {
        self.inner.ready()
    }
}

struct AnsweringFactory(Registry);

impl OperatorFactory for AnsweringFactory {
    fn name(&self) -> &'static str {
        ANSWERING
    }
    fn summary(&self) -> &'static str {
        "gives fixed answers, for tests"
    }
    fn schema(&self) -> schemars::Schema {
        schemars::Schema::default()
    }
    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let (factory, inner) = real(&self.0, options)?;
        factory.check(inner, context)
    }
    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let answers = options["answers"].as_array().cloned().unwrap_or_default();
        Ok(Box::new(Answering { answers, seen: 0 }))
    }
}

struct Answering {
    answers: Vec<Value>,
    seen: usize,
}

impl Operator for Answering {
    fn process(&mut self, mut batch: Batch, out: &mut Collector) {
        let mut verdicts = Verdicts::default();
        for index in 0..batch.len() {
            let before = batch.value(&batch.records[index]).map(<[u8]>::to_vec);
            let answered = self.answer(before.as_deref());
            self.seen += 1;
            verdicts.note(answered.map(|value| {
                batch.records[index].value = batch.put(Some(value.to_string().as_bytes()));
                true
            }));
        }
        verdicts.settle(batch, out);
    }
}

impl Answering {
    /// The record with the next answer laid over it. An answer `{ fail: CAUSE }` fails it.
    fn answer(&self, before: Option<&[u8]>) -> Result<Value, String> {
        let Some(answer) = self.answers.get(self.seen) else {
            return Err(format!("the stub has {} answers, this is record {}", self.answers.len(), self.seen));
        };
        let Value::Object(fields) = answer else { return Ok(answer.clone()) };
        if let (1, Some(cause)) = (fields.len(), fields.get("fail").and_then(Value::as_str)) {
            return Err(cause.to_owned());
        }
        match before.map(serde_json::from_slice::<Value>) {
            Some(Ok(Value::Object(mut record))) => {
                record.extend(fields.clone());
                Ok(Value::Object(record))
            }
            _ => Ok(answer.clone()),
        }
    }
}
