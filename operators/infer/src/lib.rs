#![doc = include_str!("../README.md")]

mod image;
mod known;
mod member;
mod operator;
mod options;
mod results;

use known::Running;
use operator::{Infer, RUNS_IN_FLIGHT};
use options::{Checked, InferOptions};
use pelton_model::Service;
use pelton_sdk::{BuildContext, Operator, OperatorFactory, OperatorShape, OptionError};
use serde_json::Value;
use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
};

/// Makes `infer` operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferFactory;

impl OperatorFactory for InferFactory {
    fn name(&self) -> &'static str {
        "infer"
    }

    fn summary(&self) -> &'static str {
        "runs an ONNX model over a field of each record and writes label and score into it"
    }

    fn help(&self) -> &'static str {
        include_str!("../README.md")
    }

    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(InferOptions)
    }

    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        let checked = options::check(options, context)?;
        let output = results::shape(&checked.plan, context.input.as_deref());
        Ok(OperatorShape { output: Some(Arc::new(output)), ..OperatorShape::default() })
    }

    /// Loads the model on the calling thread, when no other operator of the executor has it.
    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        build(options, context).map(|made| Box::new(made) as Box<dyn Operator>)
    }
}

fn build(options: &Value, context: &BuildContext) -> Result<Infer, Vec<OptionError>> {
    let Checked { plan, name, digest, runtime, signature } = options::check(options, context)?;
    let failed = |message: String| vec![OptionError::at("/model", message)];
    let key = format!("infer {digest} {} {signature:?} {:?}", runtime.name(), plan.limits);
    let slot = context.services.get_or_try_insert(&key, || Ok::<_, Infallible>(Running::default()));
    let Ok(Some(slot)) = slot else {
        return Err(failed(format!("the service `{key}` is of another type")));
    };
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let service = match slot.upgrade() {
        Some(service) => service,
        None => {
            let model = known::take(&name, digest, runtime, context).map_err(|e| vec![e])?;
            let service = Service::start(&name, model, signature, plan.limits)
                .map_err(|e| failed(format!("no thread for model `{name}`: {e}")))?;
            let service = Arc::new(service);
            *slot = Arc::downgrade(&service);
            service
        }
    };
    let wake = context.wake.clone();
    let client = service.client(plan.limits.max_batch * RUNS_IN_FLIGHT, move || wake.wake());
    Ok(Infer::new(plan, service, client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::{Collector, Wake};
    use pelton_types::{Batch, Partition, Record, Span};
    use std::{path::Path, thread, time::Instant};

    fn half() -> Batch {
        let mut batch = Batch::new(Partition::new("digits", 0));
        for offset in 0..32 {
            let text = serde_json::json!({"pixels": vec![offset % 17; 64]}).to_string();
            let value = batch.put(Some(text.as_bytes()));
            batch.records.push(Record {
                key: Span::NULL,
                value,
                headers: Span::NULL,
                timestamp_ms: -1,
                offset,
            });
        }
        batch
    }

    #[test]
    fn two_tasks_of_an_executor_fill_one_batch_and_the_model_goes_with_the_last() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits");
        let context =
            BuildContext { wake: Wake::thread(thread::current()), ..BuildContext::detached(models) };
        let options = serde_json::json!({
            "model": "digits", "input": {"field": ".pixels"}, "output": {"label": ".label"},
            "maxBatch": 64, "maxDelay": "10s",
        });
        let (mut a, mut b) = (build(&options, &context).unwrap(), build(&options, &context).unwrap());
        let (mut out_a, mut out_b) = (Collector::new(Instant::now()), Collector::new(Instant::now()));
        a.process(half(), &mut out_a);
        b.process(half(), &mut out_b);
        while a.held() + b.held() > 0 {
            thread::park();
            a.poll(&mut out_a);
            b.poll(&mut out_b);
        }
        assert_eq!((out_a.settled(), out_b.settled()), (32, 32));
        let stats = b._service.stats();
        assert_eq!((stats.batches, stats.rows), (1, 64));

        let other = serde_json::json!({
            "model": "digits", "input": {"field": ".pixels"}, "output": {"label": ".label"}, "maxBatch": 8,
        });
        assert!(!Arc::ptr_eq(&a._service, &build(&other, &context).unwrap()._service));
        let service = Arc::downgrade(&a._service);
        drop((a, b));
        assert!(service.upgrade().is_none());
    }

    #[test]
    fn a_model_is_loaded_once_for_a_check_and_all_operators_that_share_it() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits");
        let context =
            BuildContext { background: pelton_sdk::Background::new(drop), ..BuildContext::detached(&models) };
        let options = serde_json::json!({
            "model": "digits", "input": {"field": ".pixels"}, "output": {"label": ".label"}, "maxBatch": 8,
        });
        let loads = |context: &BuildContext| {
            let digest = pelton_model::lookup::read("digits", &models).unwrap().digest;
            let runtime = pelton_model::Engine::Auto.runtime().unwrap();
            known::slot(digest, runtime, &context.services).lock().unwrap().loads
        };
        InferFactory.check(&options, &context).unwrap();
        let first = build(&options, &context).unwrap();
        InferFactory.check(&options, &context).unwrap();
        let second = build(&options, &context).unwrap();
        assert!(Arc::ptr_eq(&first._service, &second._service));
        assert_eq!(loads(&context), 1);
        // Limits of its own need a service of its own, and that a model of its own.
        let mut other = options.clone();
        other["maxBatch"] = serde_json::json!("auto");
        let third = build(&other, &context).unwrap();
        assert!(!Arc::ptr_eq(&first._service, &third._service));
        assert_eq!(loads(&context), 2);
    }
}
