//! Savepoints, and positions set by hand.

use super::{
    admin::{Admin, name_of},
    hand::{Hand, Trouble, close},
    refused,
};
use crate::{
    core::{Everything, PartitionAt, Setting},
    store::{AuditRecord, SavepointRecord},
};
use pelton_checkpoint::{Positions, Stamp, Verdict, verdict, went_back};
use pelton_proto::v1;
use pelton_sdk::Registry;
use pelton_types::{Partition, PipelineName};
use std::time::Duration;
use tonic::Status;

/// After a start, and then each day.
const FIRST_REPETITION: Duration = Duration::from_secs(3600);
const REPETITION: Duration = Duration::from_secs(24 * 3600);
/// Longest text of an audit's entry that is kept, characters.
const MOST_CHARS: usize = 500;

impl Admin {
    pub(super) async fn create_savepoint_of(&self, r: v1::SavepointRef) -> Result<v1::Savepoint, Status> {
        let name = name_of(&r.namespace, &r.pipeline)?;
        let wanted = name.clone();
        let everything = self.handle.ask(move |core, _| core.everything(&wanted)).await?.map_err(refused)?;
        let revision = everything.revision;
        let positions = self.on_thread(move |registry| read(registry, &everything)).await?;
        let label = r.name;
        let (label, savepoint) = self
            .handle
            .ask(move |core, now| {
                let label = if label.is_empty() { format!("at-{}", now.wall_ms) } else { label };
                let savepoint = SavepointRecord::new(now.wall_ms, revision, &positions);
                core.add_savepoint(&name, &label, savepoint.clone()).map(|()| (label, savepoint))
            })
            .await?
            .map_err(refused)?;
        Ok(view(label, &savepoint))
    }

    pub(super) async fn savepoints_of(&self, r: v1::PipelineRef) -> Result<Vec<v1::Savepoint>, Status> {
        let name = name_of(&r.namespace, &r.name)?;
        let all = self.handle.ask(move |core, _| core.savepoints(&name)).await?.map_err(refused)?;
        let mut all: Vec<_> = all.into_iter().map(|(label, s)| view(label, &s)).collect();
        all.sort_by_key(|s| s.created_ms);
        Ok(all)
    }

    pub(super) async fn set_positions_of(
        &self,
        r: v1::SetPositionsRequest,
    ) -> Result<Vec<v1::PartitionOffset>, Status> {
        let name = name_of(&r.namespace, &r.pipeline)?;
        let positions = positions(&r.positions)?;
        let list: Vec<String> = positions.iter().map(|(p, at)| format!("{p} to {at}")).collect();
        self.set_all(&name, positions, Some([format!("set {}", list.join(", ")), r.by, r.reason])).await
    }

    /// The revision of a savepoint, after its offsets were set.
    pub(super) async fn back_to_savepoint(
        &self,
        name: &PipelineName,
        r: &v1::RollbackRequest,
    ) -> Result<String, Status> {
        let (wanted, label) = (name.clone(), r.savepoint.clone());
        let (savepoint, definition) =
            self.handle.ask(move |core, _| core.savepoint(&wanted, &label)).await?.map_err(refused)?;
        let positions = savepoint.partitions().collect();
        let what = format!("rolled back to savepoint {} (revision {})", r.savepoint, savepoint.revision);
        self.set_all(name, positions, Some([what, r.by.clone(), r.reason.clone()])).await?;
        Ok(definition)
    }

    /// Set positions of a paused pipeline, or commit all once more when there are none; what they were before. The texts
    /// say what, by whom and why, for the audit.
    async fn set_all(
        &self,
        name: &PipelineName,
        positions: Vec<PartitionAt>,
        audit: Option<[String; 3]>,
    ) -> Result<Vec<v1::PartitionOffset>, Status> {
        let wanted = name.clone();
        let settings = self
            .handle
            .ask(move |core, now| core.take_positions(&wanted, &positions, now))
            .await?
            .map_err(refused)?;
        let tasks: Vec<_> = settings.iter().map(|s| s.task.clone()).collect();
        // Whatever comes of it, the tasks are given back.
        let (before, failed) = match self.on_thread(move |registry| Ok(set_each(registry, &settings))).await {
            Ok((before, failed)) => (before, failed.map(failure)),
            Err(why) => (Vec::new(), Some(why)),
        };
        let entry = audit.map(|[what, by, reason]| {
            [outcome(what, &before, failed.as_ref()), by, reason].map(|text| short(&text))
        });
        let of = name.clone();
        self.handle
            .ask(move |core, now| {
                let at_ms = now.wall_ms;
                let entry = entry.map(|[what, by, reason]| AuditRecord { at_ms, by, what, reason });
                core.positions_set(&of, &tasks, entry, now);
            })
            .await?;
        failed.map_or_else(|| Ok(before.into_iter().map(wire).collect()), Err)
    }

    pub(super) async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registry) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Status> {
        let registry = self.definitions.registry().clone();
        let done = tokio::task::spawn_blocking(move || work(&registry)).await;
        let done = done.unwrap_or_else(|e| Err(Trouble::new(e.to_string())));
        done.map_err(failure)
    }
}

/// Commit once more where paused pipelines stand, each day: offsets of a group without members expire a week after their
/// last commit, and nobody else commits them (P9). Ends with the coordinator.
pub(super) async fn keep_paused(admin: Admin) {
    let start = tokio::time::Instant::now() + FIRST_REPETITION;
    let mut days = tokio::time::interval_at(start, REPETITION);
    let mut stopped = admin.stopped.clone();
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = days.tick() => {}
        }
        let Ok(snapshot) = admin.handle.fresh().await else { return };
        for paused in snapshot.pipelines.iter().filter(|p| p.phase == "paused") {
            let name = PipelineName::new(&paused.namespace, &paused.name);
            // Where a task stands is read once it is taken: the pipeline may go on and pause again in between.
            if let Err(why) = admin.set_all(&name, Vec::new(), None).await {
                tracing::warn!(pipeline = %name, "its committed offsets could not be committed once more: {}", why.message());
            }
        }
    }
}

/// Where all partitions of a pipeline stand; one without a committed offset stands where it would start.
fn read(registry: &Registry, all: &Everything) -> Result<Vec<PartitionAt>, Trouble> {
    let mut hand = Hand::new(registry, &all.task, &all.definition, &all.sources)?;
    let seen = hand.read()?;
    Ok(seen.into_iter().map(|c| (c.partition, c.start)).collect())
}

/// Set the positions of task after task, up to the first that cannot be; what they were before, and why it ended early.
fn set_each(registry: &Registry, settings: &[Setting]) -> (Vec<PartitionAt>, Option<Trouble>) {
    let mut before = Vec::new();
    for setting in settings {
        match set(registry, setting) {
            Ok(positions) => before.extend(positions),
            Err(why) => return (before, Some(why)),
        }
    }
    (before, None)
}

/// Set positions of one task as the holder of its newest epoch; what they were before.
fn set(registry: &Registry, setting: &Setting) -> Result<Vec<PartitionAt>, Trouble> {
    let mut hand = Hand::new(registry, &setting.task, &setting.definition, &setting.sources)?;
    let delivery = hand.delivery();
    let transactional = delivery == pelton_checkpoint::Delivery::ExactlyOnce;
    let mut producer = if transactional { Some(hand.producer()?) } else { None };
    let seen = hand.read()?;
    let own = Stamp::of(&setting.task, setting.epoch).map_err(|e| Trouble::new(e.to_string()))?;
    let before: Positions = match verdict(&own, delivery, setting.virgin, &seen) {
        Verdict::Go { positions, .. } => positions,
        Verdict::StepDown(reason) => {
            return Err(Trouble::new(format!("task {} is at work elsewhere: {reason:?}", setting.task)));
        }
        Verdict::Stop(incident) => return Err(Trouble { code: incident.code, text: incident.message }),
    };
    // Those that are set are where somebody wants them.
    let stays = |(partition, _): &&PartitionAt| setting.positions.iter().all(|(set, _)| set != partition);
    let heard: Positions = setting.heard.iter().filter(stays).cloned().collect();
    if let (true, Some(incident)) = (transactional, went_back(&heard, &seen)) {
        return Err(Trouble { code: incident.code, text: incident.message });
    }
    let mut after = before.clone();
    for (partition, at) in &mut after {
        if let Some((_, wanted)) = setting.positions.iter().find(|(p, _)| p == partition) {
            *at = *wanted;
        }
    }
    let metadata = own.to_string();
    match &mut producer {
        // What is on its way yet is refused from the next init of this id on, which comes before any work.
        Some(producer) => {
            hand.commit_with(&mut **producer, &after, &metadata)?;
        }
        None => hand.commit(&after, &metadata)?,
    }
    producer.map_or(Ok(()), close)?;
    let changed = |(p, _): &PartitionAt| setting.positions.iter().any(|(wanted, _)| wanted == p);
    Ok(before.into_iter().filter(changed).collect())
}

/// What the wire says, or what is wrong with it.
fn positions(wire: &[v1::PartitionOffset]) -> Result<Vec<PartitionAt>, Status> {
    let mut all: Vec<PartitionAt> = Vec::new();
    for one in wire {
        let partition = Partition::from(&one.partition.clone().unwrap_or_default());
        if one.offset < 0 {
            let text = format!("{partition}: an offset is not negative, found {}", one.offset);
            return Err(Status::invalid_argument(text));
        }
        if all.iter().any(|(p, _)| *p == partition) {
            return Err(Status::invalid_argument(format!("{partition} is named twice")));
        }
        all.push((partition, one.offset));
    }
    if all.is_empty() {
        return Err(Status::invalid_argument("say which partition shall go on where"));
    }
    Ok(all)
}

/// What the audit says was done.
fn outcome(what: String, before: &[PartitionAt], failed: Option<&Status>) -> String {
    let Some(why) = failed else { return what };
    let done: Vec<String> = before.iter().map(|(partition, _)| partition.to_string()).collect();
    let done = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
    format!("{what}; failed after {done}: {}", why.message())
}

fn failure(why: Trouble) -> Status {
    Status::failed_precondition(format!("[{}] {}", why.code, why.text))
}

fn wire((partition, offset): PartitionAt) -> v1::PartitionOffset {
    v1::PartitionOffset { partition: Some((&partition).into()), offset }
}

fn view(name: String, s: &SavepointRecord) -> v1::Savepoint {
    v1::Savepoint {
        name,
        created_ms: s.at_ms,
        revision: s.revision,
        positions: s.partitions().map(wire).collect(),
    }
}

fn short(text: &str) -> String {
    text.chars().take(MOST_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_says_how_far_it_came() {
        let before = [(Partition::new("in", 3), 7)];
        let why = Status::failed_precondition("no answer");
        assert_eq!(outcome("set in[3] to 5".into(), &before, None), "set in[3] to 5");
        assert_eq!(outcome("set all".into(), &before, Some(&why)), "set all; failed after in[3]: no answer");
        assert_eq!(outcome("set all".into(), &[], Some(&why)), "set all; failed after nothing: no answer");
    }
}
