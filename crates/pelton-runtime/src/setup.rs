//! Making the parts of a task.

use crate::{
    chain::Chain, executor::AssignedPartitions, outputs::OutputQueue, plan::StagePlan,
    positions::PositionStore, trouble,
};
use pelton_sdk::{BuildContext, Connector, EndError, Offsets, Registry, Scope, SinkSpec, Source, SourceSpec};
use pelton_types::{Code, Incident, TaskId};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    task::Poll,
};

/// A source of a task, with the place its positions are kept.
pub struct SourceSlot {
    /// Its index in the plan: a task may have no partition of some sources.
    pub index: usize,
    /// What it was made from.
    pub spec: SourceSpec,
    /// Reads.
    pub source: Box<dyn Source>,
    /// Keeps positions.
    pub offsets: Box<dyn Offsets>,
    /// It has delivered everything.
    pub ended: bool,
    pub(crate) read_pending: bool,
    pub(crate) commit_pending: bool,
}

/// The transactional producer of a task, behind its sinks and its place for offsets: under exactly-once a commit of
/// offsets ends the transaction that what the sinks were given since the last one is in. Calls return at once.
pub trait Producer: Send {
    /// Make a new producer and initialise it, which fences the one before. `throw_away`: a second one of the same id
    /// first, because a transaction of it may be open.
    fn start_init(&mut self, throw_away: bool);
    /// Ready when it may be used.
    fn poll_init(&mut self) -> Poll<Result<(), EndError>>;
    /// Drop it, whatever its state: nothing it was given since the last commit may become visible.
    fn discard(&mut self);
}

/// Everything a task is made of.
pub struct Parts {
    pub(crate) sources: Vec<SourceSlot>,
    pub(crate) chain: Chain,
    pub(crate) outputs: Vec<OutputQueue>,
    pub(crate) dead_letters: Option<OutputQueue>,
    pub(crate) positions: PositionStore,
    pub(crate) producer: Option<Box<dyn Producer>>,
}

impl Parts {
    /// With a transactional producer, for exactly-once.
    #[must_use]
    pub fn transactional(mut self, producer: Box<dyn Producer>) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Connect the sources ahead of the grant.
    pub fn warm(&mut self) {
        self.sources.iter_mut().for_each(|slot| slot.source.warm());
    }
}

/// What an executor makes tasks with: the binary's components, and its own connections.
pub struct Workshop {
    registry: Registry,
    context: BuildContext,
    scope: Scope,
    connectors: BTreeMap<String, Box<dyn Connector>>,
}

impl Workshop {
    /// A workshop with no connections yet.
    pub fn new(registry: Registry, context: BuildContext, scope: Scope) -> Self {
        Self { registry, context, scope, connectors: BTreeMap::new() }
    }

    /// Make the parts of a task.
    ///
    /// # Errors
    /// The incident to report: a component this binary lacks, options that do not fit, a client that cannot be made.
    pub fn make(
        &mut self,
        task: &TaskId,
        plan: &StagePlan,
        partitions: &AssignedPartitions,
    ) -> Result<Parts, Incident> {
        let context = BuildContext { tasks: partitions.tasks.max(1) as usize, ..self.context.clone() };
        let chain = Chain::build(plan, &self.registry, &context).map_err(|errors| {
            let (operator, error) = &errors[0];
            trouble::cannot_build(operator, error)
        })?;
        let mut sources = Vec::new();
        for (index, source) in plan.sources.iter().enumerate() {
            let own = partitions.sources.get(&source.name).cloned().unwrap_or_default();
            if own.is_empty() {
                continue;
            }
            let spec = SourceSpec {
                task: task.clone(),
                name: source.name.clone(),
                options: source.options.clone(),
                partitions: own,
            };
            let connector = self.connector(&source.connector)?;
            let slot = connector
                .source(&spec)
                .and_then(|reader| Ok((reader, connector.offsets(&spec)?)))
                .map_err(|e| trouble::of_end(&e, &source.name))?;
            sources.push(SourceSlot {
                index,
                spec,
                source: slot.0,
                offsets: slot.1,
                ended: false,
                read_pending: false,
                commit_pending: false,
            });
        }
        let mut outputs = Vec::new();
        for sink in &plan.sinks {
            outputs.push(self.output(task, &sink.name, &sink.connector, &sink.options)?);
        }
        let dead_letters = match &plan.dead_letter {
            Some(sink) => Some(self.output(task, &sink.name, &sink.connector, &sink.options)?),
            None => None,
        };
        Ok(Parts {
            sources,
            chain,
            outputs,
            dead_letters,
            positions: PositionStore::default(),
            producer: None,
        })
    }

    fn output(
        &mut self,
        task: &TaskId,
        name: &str,
        connector: &str,
        options: &serde_json::Value,
    ) -> Result<OutputQueue, Incident> {
        let spec = SinkSpec { task: task.clone(), name: name.to_owned(), options: options.clone() };
        let sink = self.connector(connector)?.sink(&spec).map_err(|e| trouble::of_end(&e, name))?;
        Ok(OutputQueue::new(name, sink))
    }

    fn connector(&mut self, name: &str) -> Result<&mut Box<dyn Connector>, Incident> {
        match self.connectors.entry(name.to_owned()) {
            Entry::Occupied(connected) => Ok(connected.into_mut()),
            Entry::Vacant(free) => match self.registry.find_connector(name) {
                Some(factory) => Ok(free.insert(factory.connect(self.scope.clone()))),
                None => Err(Incident {
                    code: Code::BadPipeline,
                    message: format!("this worker has no connector `{name}`"),
                    remedy: "run workers of the same version as the coordinator".into(),
                    stops_task: true,
                }),
            },
        }
    }
}
