//! From a definition's text to what the core accepts: parse, check, look at topics, lay out tasks.

use super::Options;
use crate::core::{Accepted, StageLayout, TopicSize};
use pelton_config::{Delivery, Document, parse};
use pelton_sdk::{
    BuildContext, ConnectorFactory, Durability, EndError, ErrorKind, OptionError, Registry, TopicCatalog,
};
use pelton_types::Code;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
};
use tonic::Status;

/// A status travels in HTTP/2 headers, percent-encoded, and clients take 16 KiB of those.
const MAX_STATUS_CHARS: usize = 4000;

/// Knows the components of this build.
pub(super) struct Definitions {
    options: Options,
    registry: Registry,
    context: BuildContext,
}

impl std::fmt::Debug for Definitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Definitions")
    }
}

/// A topic, where it is or shall be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TopicAt {
    connector: String,
    cluster: Option<String>,
    topic: String,
}

/// Topics to be created, each with the options of an end that names it.
pub(super) type NewTopics = BTreeMap<TopicAt, Value>;

/// A definition that can be applied.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) document: Document,
    pub(super) accepted: Accepted,
    /// What is created for it first.
    pub(super) topics: NewTopics,
}

/// What was learnt of a topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Topic {
    Has(u32),
    Missing,
    /// This kind of end has no topics to look for.
    Unlisted,
}

/// Looks topics up once per request, and gathers what is wrong.
struct Lookup<'a> {
    definitions: &'a Definitions,
    seen: BTreeMap<TopicAt, Topic>,
    problems: Vec<String>,
}

impl Definitions {
    pub(super) fn new(options: Options, registry: Registry, context: BuildContext) -> Self {
        Self { options, registry, context }
    }

    /// The components of this build.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Check every document of a text, or say everything that is wrong with it.
    pub(super) async fn prepare(
        &self,
        file_name: &str,
        text: &str,
        namespace: &str,
    ) -> Result<Vec<Prepared>, Status> {
        let mut documents = self.parse(file_name, text)?;
        for document in &mut documents {
            let named = &mut document.metadata.namespace;
            if named == pelton_config::DEFAULT_NAMESPACE && !namespace.is_empty() {
                namespace.clone_into(named);
            }
        }
        let names: BTreeSet<_> = documents.iter().map(Document::name).collect();
        if names.len() < documents.len() {
            return Err(Status::invalid_argument("two documents of the file have the same name"));
        }
        let mut lookup = Lookup { definitions: self, seen: BTreeMap::new(), problems: Vec::new() };
        let mut prepared = Vec::new();
        for document in documents {
            prepared.push(self.lay_out(document, &mut lookup).await?);
        }
        if lookup.problems.is_empty() {
            Ok(prepared)
        } else {
            Err(Status::failed_precondition(shorten(&lookup.problems.join("\n"))))
        }
    }

    fn parse(&self, file_name: &str, text: &str) -> Result<Vec<Document>, Status> {
        let file_name = if file_name.is_empty() { "definition" } else { file_name };
        let read = || parse(file_name, text, &self.registry, &self.context, &*self.options.env);
        // Checks load models: long enough to be kept off the threads that answer heartbeats, where there are others.
        let flavor = tokio::runtime::Handle::current().runtime_flavor();
        let parsed = match flavor {
            tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(read),
            _ => read(),
        };
        parsed.map_err(|report| {
            let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            Status::invalid_argument(shorten(&problems.join("\n")))
        })
    }

    async fn lay_out(&self, document: Document, lookup: &mut Lookup<'_>) -> Result<Prepared, Status> {
        let mut topics = NewTopics::new();
        let Size { tasks, topics: layout } = read_by(&document, lookup, &mut topics).await?;
        let spec = &document.spec;
        let sinks = spec.sinks.iter().map(|(name, s)| (format!("sink {name}"), &s.connector, &s.options));
        let letters = spec.on_error.dead_letter.iter();
        let letters = letters.map(|e| ("the dead-letter end".to_owned(), &e.connector, &e.options));
        let outputs: Vec<(String, &String, &Value)> = sinks.chain(letters).collect();
        for (name, connector, options) in outputs {
            for topic in lookup.factory(connector)?.check_sink(options).map_err(mistakes)? {
                let user = format!("{name} of {} writes", document.name());
                lookup.partitions((connector, options), &topic, &user, &mut topics).await?;
                if spec.delivery == Delivery::ExactlyOnce {
                    lookup.durability((connector, options), &topic, &user).await?;
                }
            }
        }
        let accepted = Accepted {
            name: document.name(),
            kind: document.kind.as_str().to_owned(),
            definition: pelton_config::to_json(&document).to_string(),
            exactly_once: spec.delivery == Delivery::ExactlyOnce,
            stages: vec![StageLayout { tasks, topics: layout }],
            uuid: (self.options.new_uuid)(),
        };
        Ok(Prepared { document, accepted, topics })
    }

    /// How often topics of running pipelines are looked at.
    pub(super) fn look_at_topics(&self) -> std::time::Duration {
        self.options.look_at_topics
    }

    /// What a definition that was applied reads now; `None` when a topic of it is not there.
    pub(super) async fn size(&self, definition: &str) -> Result<Option<Size>, Status> {
        let unreadable = |why: String| Status::internal(format!("a definition that was applied: {why}"));
        let json: Value = serde_json::from_str(definition).map_err(|e| unreadable(e.to_string()))?;
        let document = pelton_config::from_json(&json).map_err(|report| unreadable(report.to_string()))?;
        let mut lookup = Lookup { definitions: self, seen: BTreeMap::new(), problems: Vec::new() };
        let mut missing = NewTopics::new();
        let size = read_by(&document, &mut lookup, &mut missing).await?;
        Ok((missing.is_empty() && lookup.problems.is_empty()).then_some(size))
    }

    /// Create topics; fine when they exist.
    pub(super) async fn create(&self, topics: &NewTopics) -> Result<(), Status> {
        for (TopicAt { connector, topic, .. }, options) in topics {
            let Some(catalog) = self.catalog(connector, options) else { continue };
            self.in_time(connector, catalog.create(topic, self.options.default_partitions)).await?;
        }
        Ok(())
    }

    /// A line for people.
    pub(super) fn note(&self, topic: &TopicAt) -> String {
        format!("topic {} will be created with {} partitions", topic.topic, self.options.default_partitions)
    }

    fn catalog(&self, connector: &str, options: &Value) -> Option<Arc<dyn TopicCatalog>> {
        self.registry.find_connector(connector)?.catalog(options)
    }

    async fn in_time<T>(
        &self,
        connector: &str,
        call: impl Future<Output = Result<T, EndError>>,
    ) -> Result<T, Status> {
        let patience = self.options.catalog_timeout;
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) if e.kind == ErrorKind::Retry => Err(Status::unavailable(format!(
                "[{}] {e}; see that the {connector} connection works, then apply again",
                e.code
            ))),
            Ok(Err(e)) => Err(Status::failed_precondition(format!("[{}] {e}", e.code))),
            Err(_) => Err(Status::unavailable(format!(
                "[{}] {connector} did not answer within {patience:?}; see that its brokers are reachable from the \
                 coordinator, then apply again",
                Code::BrokerUnreachable
            ))),
        }
    }
}

/// What a pipeline reads: its tasks, and the partitions of its topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) tasks: u32,
    pub(super) topics: Vec<TopicSize>,
}

/// Look at the topics that a document's sources read; those that are missing go into `create`.
async fn read_by(
    document: &Document,
    lookup: &mut Lookup<'_>,
    create: &mut NewTopics,
) -> Result<Size, Status> {
    let mut topics = Vec::new();
    for (source, end) in &document.spec.sources {
        let shape = lookup.factory(&end.connector)?.check_source(&end.options).map_err(mistakes)?;
        for topic in shape.topics {
            let partitions = match shape.partitions {
                Some(partitions) => partitions,
                None => {
                    let user = format!("source {source} of {} reads", document.name());
                    lookup.partitions((&end.connector, &end.options), &topic, &user, create).await?
                }
            };
            topics.push((source.clone(), topic, partitions));
        }
    }
    let shards = topics.iter().map(|(_, _, partitions)| *partitions).max().unwrap_or(1).max(1);
    let tasks = document.spec.tasks.unwrap_or(pelton_config::DEFAULT_TASKS).clamp(1, shards);
    Ok(Size { tasks, topics })
}

impl Lookup<'_> {
    fn factory(&self, connector: &str) -> Result<&Arc<dyn ConnectorFactory>, Status> {
        // `parse` refuses unknown names with their place; this is the same said without one.
        let found = self.definitions.registry.find_connector(connector);
        found.ok_or_else(|| Status::invalid_argument(format!("this build has no connector {connector}")))
    }

    /// Partitions of a topic that `user` needs. A missing one is noted, to be created or as a problem.
    async fn partitions(
        &mut self,
        (connector, of_end): (&str, &Value),
        topic: &str,
        user: &str,
        create: &mut NewTopics,
    ) -> Result<u32, Status> {
        let options = &self.definitions.options;
        let at = TopicAt {
            connector: connector.to_owned(),
            cluster: self.factory(connector)?.cluster(of_end),
            topic: topic.to_owned(),
        };
        match self.look_up(&at, of_end).await? {
            Topic::Has(partitions) => Ok(partitions),
            Topic::Unlisted => Ok(1),
            Topic::Missing => {
                if options.create_topics {
                    create.insert(at, of_end.clone());
                } else {
                    self.problems.push(format!(
                        "[{}] topic {topic}, which {user}, does not exist; create it with the partitions you want, \
                         or correct its name",
                        Code::TopicMissing
                    ));
                }
                Ok(options.default_partitions)
            }
        }
    }

    /// A topic that loses acknowledged records makes exactly-once an empty promise.
    async fn durability(
        &mut self,
        (connector, of_end): (&str, &Value),
        topic: &str,
        user: &str,
    ) -> Result<(), Status> {
        let definitions = self.definitions;
        if definitions.options.allow_weak_durability {
            return Ok(());
        }
        let Some(catalog) = definitions.catalog(connector, of_end) else { return Ok(()) };
        if let Some(found) = definitions.in_time(connector, catalog.durability(topic)).await?
            && let Some(fault) = weakness(topic, user, found)
        {
            self.problems.push(fault);
        }
        Ok(())
    }

    async fn look_up(&mut self, at: &TopicAt, options: &Value) -> Result<Topic, Status> {
        if let Some(known) = self.seen.get(at) {
            return Ok(*known);
        }
        let found = match self.definitions.catalog(&at.connector, options) {
            None => Topic::Unlisted,
            Some(catalog) => {
                match self.definitions.in_time(&at.connector, catalog.partitions(&at.topic)).await? {
                    Some(partitions) => Topic::Has(partitions),
                    None => Topic::Missing,
                }
            }
        };
        self.seen.insert(at.clone(), found);
        Ok(found)
    }
}

/// Copies that exactly-once asks for: one broker may be away for its upgrade while another dies.
const REPLICAS: u32 = 3;
/// Copies that have a record before it is acknowledged.
const MIN_IN_SYNC: u32 = 2;

/// Why a topic is no place for exactly-once. Pure.
fn weakness(topic: &str, user: &str, found: Durability) -> Option<String> {
    let Durability { replicas, min_in_sync } = found;
    (replicas < REPLICAS || min_in_sync < MIN_IN_SYNC).then(|| {
        format!(
            "[{}] topic {topic}, which {user}, has {replicas} replicas and min.insync.replicas={min_in_sync}; \
             `exactly-once` asks for {REPLICAS} and {MIN_IN_SYNC}, or a broker that dies takes acknowledged records with \
             it. Raise them; or, on a cluster for development, set coordinator.allowWeakDurability to true",
            Code::WeakDurability
        )
    })
}

/// `parse` finds these with their place; here they are only said, should a factory find more.
fn mistakes(errors: Vec<OptionError>) -> Status {
    let lines: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.pointer, e.message)).collect();
    Status::invalid_argument(shorten(&lines.join("\n")))
}

/// Keep whole lines up to what a status can carry.
fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_STATUS_CHARS {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut lines = text.lines();
    for line in lines.by_ref() {
        if kept.chars().count() + line.chars().count() > MAX_STATUS_CHARS {
            break;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    if kept.is_empty() {
        return text.chars().take(MAX_STATUS_CHARS).collect();
    }
    format!("{kept}and {} lines more; `pelton validate` shows all", lines.count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_once_asks_for_three_copies_of_which_two_acknowledge() {
        let weak = |replicas, min_in_sync| {
            weakness("out", "sink out of default/a writes", Durability { replicas, min_in_sync })
        };
        assert_eq!(weak(3, 2), None);
        assert!(
            weak(3, 1).unwrap().starts_with("[PLT0304] topic out, which sink out of default/a writes, has 3")
        );
        assert!(weak(1, 2).is_some());
    }

    #[test]
    fn a_long_report_is_cut_at_a_line() {
        let text = vec!["x".repeat(99); 100].join("\n");
        let short = shorten(&text);
        assert!(short.chars().count() < MAX_STATUS_CHARS + 100, "{}", short.len());
        assert!(short.ends_with("and 60 lines more; `pelton validate` shows all"), "{short}");
        assert_eq!(shorten("short"), "short");
    }
}
