//! Operators and how they are made.

use crate::{Background, Calls, Collector, OptionError, Wake};
use pelton_types::{Batch, Offset, Partition, RecordSchema, fields::SharedFields};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    any::Any,
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// One step of a chain: batch in, batches out.
///
/// The runtime may drop an operator after a panic and build it anew, give a batch again in smaller pieces, and call
/// from any one thread at a time. Nothing here may block; work above about a millisecond belongs on another thread,
/// with the records held meanwhile.
pub trait Operator: Send {
    /// Work on a batch. Order within the batch must be kept. A record made of several carries the lowest of their
    /// offsets: a commit must not pass any of them before it is stored.
    fn process(&mut self, batch: Batch, out: &mut Collector);

    /// Hand on what became ready since, in the order it came in. Returns when to ask again without a wake-up.
    fn poll(&mut self, out: &mut Collector) -> Option<Instant> {
        let _ = out;
        None
    }

    /// The task is about to end, or a commit waits because this operator does not name its [`Operator::floor`]: finish
    /// what is held as soon as possible (results come through `poll`). An ordinary commit does not ask for this.
    fn flush(&mut self) {}

    /// Records held: given in, not yet emitted, filtered or failed.
    fn held(&self) -> u64 {
        0
    }

    /// The lowest offset among the records held of this partition, `None` when none of it is held. A commit goes no
    /// further than that, so that what is held is read again after a crash. It never sinks while the operator lives,
    /// but for records given later. For an operator that does not say so reading stops at every commit until it holds
    /// nothing.
    fn floor(&self, partition: &Partition) -> Option<Offset> {
        let _ = partition;
        (self.held() > 0).then_some(Offset::MIN)
    }

    /// Room for more. While false the runtime gives no batch; wake when it changes.
    fn ready(&self) -> bool {
        true
    }
}

/// Makes operators of one kind from their options. `check` must find every mistake that `build` could meet.
pub trait OperatorFactory: Send + Sync {
    /// The key in a pipeline definition, such as `filter`.
    fn name(&self) -> &'static str;
    /// What it does, in one line.
    fn summary(&self) -> &'static str;
    /// Its page for users, Markdown: what it does, its options as a table, an example.
    fn help(&self) -> &'static str {
        self.summary()
    }
    /// Whether values leave it as they came, however its options are. Then what is known of records is known behind it even
    /// while its options are wrong, and the mistakes of the operators behind it can be told too.
    fn keeps_values(&self) -> bool {
        false
    }
    /// JSON Schema of the value under the key.
    fn schema(&self) -> schemars::Schema;
    /// Find all mistakes, without side effects.
    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>>;
    /// Make one operator.
    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>>;
}

/// What the chain must know of an operator before it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorShape {
    /// Names of its outputs beside the main one: `inputs: [route.errors]` names port `errors`. Port 1 is the first.
    pub ports: Vec<String>,
    /// It may change record keys.
    pub rekeys: bool,
    /// What the records that leave it look like, on every output; `None`: nothing is known. An operator that leaves
    /// values alone says [`BuildContext::input`].
    pub output: Option<Arc<RecordSchema>>,
    /// What a user should know of these options although nothing is wrong with them: lowercase, a sentence each.
    pub notes: Vec<String>,
    /// Names of the top-level members it reads and writes, if it can use what its neighbours found of them
    /// ([`BuildContext::fields`]); empty: it goes its own way.
    pub members: Vec<String>,
}

/// What an operator may use of its surroundings.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// Wakes the executor the operator lives on.
    pub wake: Wake,
    /// Where models are looked up by name.
    pub models: PathBuf,
    /// What the operators of one executor share, such as loaded models.
    pub services: Services,
    /// Tasks of the stage, of which the operator's is one; 1 in checks.
    pub tasks: usize,
    /// Runs what an operator waits for, such as calls over the network, beside the executors.
    pub background: Background,
    /// Counts the calls that an operator makes to others.
    pub calls: Calls,
    /// What the records given to the operator look like; `None`: nothing is known.
    pub input: Option<Arc<RecordSchema>>,
    /// Which members the operator and its neighbours find for each other; `None`: each its own.
    pub fields: Option<SharedFields>,
}

impl BuildContext {
    /// The same, for an operator that is given such records.
    #[must_use]
    pub fn with_input(&self, input: Option<Arc<RecordSchema>>) -> Self {
        Self { input, ..self.clone() }
    }

    /// For checks, tests and tools: no executor to wake, nothing shared.
    pub fn detached(models: impl Into<PathBuf>) -> Self {
        Self {
            wake: Wake::none(),
            models: models.into(),
            services: Services::default(),
            tasks: 1,
            background: Background::none(),
            calls: Calls::default(),
            input: None,
            fields: None,
        }
    }
}

type Shared = Arc<dyn Any + Send + Sync>;

/// Things the operators of one executor share, by a key of their own choice.
#[derive(Clone, Default)]
pub struct Services(Arc<Mutex<HashMap<String, Shared>>>);

impl Services {
    /// The thing under `key`, made by `make` when it is the first time. `None` if another type holds the key.
    pub fn get_or_try_insert<T: Any + Send + Sync, E>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, E> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(key) {
            return Ok(found.clone().downcast().ok());
        }
        let made = Arc::new(make()?);
        all.insert(key.to_owned(), made.clone());
        Ok(Some(made))
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

/// Options as a type; the error names the place serde stopped at, for what the schema could not say.
pub fn parse_options<T: DeserializeOwned>(options: &Value) -> Result<T, Vec<OptionError>> {
    T::deserialize(options).map_err(|e| vec![OptionError::at("", e.to_string())])
}
