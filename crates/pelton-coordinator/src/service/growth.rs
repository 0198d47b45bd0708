//! Looks whether the topics of running pipelines got more partitions, and has them read (P14).

use super::{
    admin::Admin,
    definitions::Size,
    hand::{Hand, Trouble},
};
use crate::core::{Reading, grown};
use futures_util::{StreamExt, stream};
use pelton_checkpoint::Positions;
use pelton_proto::v1;
use pelton_sdk::Registry;
use pelton_types::Partition;
use std::time::Duration;
use tonic::Status;

/// Pipelines looked at together: each waits for answers of its broker.
const AT_A_TIME: usize = 8;

/// Look each time this long has passed, until the coordinator ends.
pub(super) async fn watch(admin: Admin, every: Duration) {
    let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopped = admin.stopped.clone();
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = looks.tick() => {}
        }
        let Ok(all) = admin.handle.ask(|core, _| core.reading()).await else { return };
        stream::iter(all).for_each_concurrent(AT_A_TIME, |reading| look(&admin, reading)).await;
    }
}

async fn look(admin: &Admin, reading: Reading) {
    let name = reading.name.clone();
    // A broker that is away, or a topic that is gone: the tasks say so.
    if let Err(why) = grow(admin, reading).await {
        tracing::debug!(pipeline = %name, "its topics cannot be looked at: {}", why.message());
    }
}

async fn grow(admin: &Admin, reading: Reading) -> Result<(), Status> {
    let Some(Size { tasks, topics }) = admin.definitions.size(&reading.definition).await? else {
        return Ok(());
    };
    let new = grown(&reading.topics, &topics);
    if new.is_empty() {
        return Ok(());
    }
    let (asked, sources) = (reading.clone(), new.clone());
    admin.on_thread(move |registry| pin(registry, &asked, &sources)).await?;
    let applied = admin.handle.ask(move |core, now| core.grow(&reading, tasks, topics, now)).await?;
    if applied.is_some() {
        let partitions: Vec<String> = new
            .iter()
            .flat_map(|source| &source.partitions)
            .map(|p| Partition::from(p).to_string())
            .collect();
        tracing::info!("partitions that came to topics are read from now on: {}", partitions.join(", "));
    }
    Ok(())
}

/// Have new partitions read from their begin, whatever the definition says of the start: nothing in them is older than the
/// pipeline, and a reader that begins at the end would lose what was written until it noticed. Where something is committed
/// tasks are at work already, dealt by somebody who was faster: that must not be set back.
fn pin(registry: &Registry, reading: &Reading, new: &[v1::AssignedSource]) -> Result<(), Trouble> {
    let mut hand = Hand::new(registry, &reading.task, &reading.definition, new)?;
    let fresh = hand.read()?.into_iter().filter(|seen| seen.offset.is_none());
    let begin: Positions = fresh.map(|seen| (seen.partition, 0)).collect();
    hand.commit(&begin, "")
}
