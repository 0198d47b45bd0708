//! Topics that got more partitions while a pipeline runs (P14): its shards are dealt anew, the new ones among them.

use super::{Accepted, Applied, Core, Now, StageLayout};
use crate::store::Wanted;
use pelton_proto::v1;
use pelton_types::{PipelineName, TaskId};
use std::collections::BTreeMap;

/// Partitions of a topic of a source: source, topic, partitions.
pub type TopicSize = (String, String, u32);

/// A pipeline that runs, and what it knows of the topics it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its name.
    pub name: PipelineName,
    /// The object and the newest revision; another one makes what is known of topics old.
    pub uuid: String,
    /// See `uuid`.
    pub revision: u64,
    /// Its definition.
    pub definition: String,
    /// The topics of its first stage.
    pub topics: Vec<TopicSize>,
    /// One of its tasks.
    pub task: TaskId,
}

/// The partitions that came to topics; none where a topic is another one, or has fewer than before: such a topic was made
/// anew, and its offsets mean something else. Pure.
pub fn grown(known: &[TopicSize], now: &[TopicSize]) -> Vec<v1::AssignedSource> {
    let same = known.len() == now.len()
        && known.iter().zip(now).all(|(a, b)| (&a.0, &a.1) == (&b.0, &b.1) && a.2 <= b.2);
    let mut new: BTreeMap<&str, Vec<v1::Partition>> = BTreeMap::new();
    for ((source, topic, before), (_, _, after)) in known.iter().zip(now).filter(|_| same) {
        let partitions =
            (*before..*after).map(|index| v1::Partition { topic: topic.clone(), index: index.cast_signed() });
        new.entry(source).or_default().extend(partitions);
    }
    let sources = new.into_iter().filter(|(_, partitions)| !partitions.is_empty());
    sources.map(|(source, partitions)| v1::AssignedSource { source: source.to_owned(), partitions }).collect()
}

impl Core {
    /// Pipelines that run, with the topics they read.
    pub fn reading(&self) -> Vec<Reading> {
        let running = self.pipelines.iter().filter(|(_, p)| p.record.wanted == Wanted::Running);
        let of = |(name, p): (&PipelineName, &super::Pipeline)| {
            Some(Reading {
                name: name.clone(),
                uuid: p.record.uuid.clone(),
                revision: p.record.revision,
                definition: p.revisions.get(&p.record.revision)?.definition.clone(),
                topics: p.record.stages.first()?.topics.clone(),
                task: p.tasks.first()?.clone(),
            })
        };
        running.filter_map(of).collect()
    }

    /// Deal a pipeline's shards anew, to so many tasks, its topics having these sizes now. `None` when it has changed since
    /// it was looked at.
    pub fn grow(
        &mut self,
        reading: &Reading,
        tasks: u32,
        topics: Vec<TopicSize>,
        now: Now,
    ) -> Option<Applied> {
        let record = &self.pipelines.get(&reading.name)?.record;
        let known = record.stages.first().map(|stage| &stage.topics);
        let same = (&record.uuid, record.revision) == (&reading.uuid, reading.revision);
        if !same || known != Some(&reading.topics) || record.wanted != Wanted::Running {
            return None;
        }
        let accepted = Accepted {
            name: reading.name.clone(),
            kind: record.kind.clone(),
            definition: reading.definition.clone(),
            exactly_once: record.exactly_once,
            stages: vec![StageLayout { tasks, topics }],
            uuid: reading.uuid.clone(),
        };
        self.apply(accepted, now).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(topic: &str, partitions: u32) -> TopicSize {
        ("in".into(), topic.into(), partitions)
    }

    #[test]
    fn only_partitions_that_came_are_new_and_a_topic_made_anew_has_none() {
        let known = [size("a", 2), size("b", 4)];
        let new = grown(&known, &[size("a", 4), size("b", 4)]);
        let named: Vec<_> = new[0].partitions.iter().map(|p| (p.topic.as_str(), p.index)).collect();
        assert_eq!((new.len(), named), (1, vec![("a", 2), ("a", 3)]));
        assert!(grown(&known, &known).is_empty());
        assert!(grown(&known, &[size("a", 3), size("b", 1)]).is_empty(), "b was made anew");
        assert!(grown(&known, &[size("a", 3), size("c", 4)]).is_empty());
        assert!(grown(&known, &[size("a", 3)]).is_empty());
    }
}
