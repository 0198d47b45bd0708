//! What committed metadata means for the holder of a grant (P4).

use crate::{Delivery, Positions, Stamp, StampError, StepDownReason};
use pelton_sabotage::{Defect, breaks};
use pelton_types::{Code, Incident, Offset, Partition};

/// What was committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Committed {
    /// The partition.
    pub partition: Partition,
    /// Committed offset; `None` when there is none.
    pub offset: Option<Offset>,
    /// Where to start: the committed offset, or what the source's `start:` means now.
    pub start: Offset,
    /// The text committed with it; an empty one counts as none.
    pub metadata: Option<String>,
}

/// What to do after reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task is ours.
    Go {
        /// Where it stands.
        positions: Positions,
        /// The newest stamp found; `None` when nothing was ever committed by this pipeline.
        newest: Option<Stamp>,
    },
    /// It is somebody else's by now.
    StepDown(StepDownReason),
    /// Its offsets cannot be trusted.
    Stop(Incident),
}

/// Judge what was read for all partitions of a task. `own` is the stamp of the grant, `virgin` says that the task
/// was never claimed.
///
/// A newer epoch or generation on any partition means that another owner is at work, and is said before any
/// complaint: that owner will make it. Under exactly-once every partition must carry the same stamp of ours (a
/// retirement claim, epoch 0, may differ in its state, because it comes from several old tasks). Under
/// at-least-once a missing stamp, an older generation and differing stamps are accepted, because whoever committed
/// an offset had stored everything below it; so is the stamp of an earlier pipeline object of this name, because
/// deleting a pipeline keeps its offsets and creating it again goes on from them. A text that is no stamp at all is
/// not accepted: another tool wrote the offset.
pub fn verdict(own: &Stamp, delivery: Delivery, virgin: bool, seen: &[Committed]) -> Verdict {
    let mut stamps = Vec::with_capacity(seen.len());
    let mut complaint = None;
    for entry in seen {
        match stamp_of(own, delivery, entry) {
            Ok(stamp) => stamps.push((entry, stamp)),
            Err(incident) => complaint = complaint.or(Some(incident)),
        }
    }
    let found = || stamps.iter().filter_map(|(_, stamp)| stamp.as_ref());
    if found().any(|stamp| stamp.generation > own.generation) {
        return Verdict::StepDown(StepDownReason::NewerGeneration);
    }
    let newer = |stamp: &Stamp| stamp.generation == own.generation && stamp.epoch > own.epoch;
    if found().any(newer) && !breaks(Defect::EpochCheckOff) {
        return Verdict::StepDown(StepDownReason::NewerEpoch);
    }
    if delivery == Delivery::ExactlyOnce {
        complaint = complaint.or_else(|| exactly_once_complaint(own, virgin, &stamps));
    }
    match complaint {
        Some(incident) => Verdict::Stop(incident),
        None => {
            let mut positions: Positions =
                seen.iter().map(|entry| (entry.partition.clone(), entry.start)).collect();
            positions.sort();
            let newest = found().max_by_key(|stamp| (stamp.generation, stamp.epoch)).cloned();
            Verdict::Go { positions, newest }
        }
    }
}

/// The stamp of one partition, `None` when nothing is there.
pub(crate) fn stamp_of(
    own: &Stamp,
    delivery: Delivery,
    entry: &Committed,
) -> Result<Option<Stamp>, Incident> {
    let partition = &entry.partition;
    let Some(text) = entry.metadata.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let stamp = Stamp::parse(text).map_err(|error| unreadable(partition, &error))?;
    if stamp.uuid != own.uuid {
        if delivery == Delivery::AtLeastOnce {
            return Ok(None);
        }
        return Err(not_ours(partition, &stamp, own));
    }
    Ok(Some(stamp))
}

/// What exactly-once asks for beyond at-least-once.
fn exactly_once_complaint(
    own: &Stamp,
    virgin: bool,
    stamps: &[(&Committed, Option<Stamp>)],
) -> Option<Incident> {
    let missing = stamps.iter().find(|(_, stamp)| stamp.is_none());
    if let (Some((entry, _)), false) = (missing, virgin) {
        return Some(foreign(format!(
            "{}: the task has worked before, but no metadata is committed with the offset: it expired, or the offset \
             was set by another tool",
            entry.partition
        )));
    }
    let mut found = stamps.iter().filter_map(|(entry, stamp)| Some((&entry.partition, stamp.as_ref()?)));
    let (first_partition, first) = found.clone().next()?;
    if let Some((partition, stamp)) = found.clone().find(|(_, stamp)| stamp.generation < own.generation) {
        return Some(Incident {
            code: Code::OldGeneration,
            message: format!(
                "{partition}: the offset was committed by generation {}, this task is of generation {}, and no \
                 retirement claim lies between",
                stamp.generation, own.generation
            ),
            remedy: "the coordinator forgot the old generation: restore its store; or delete the pipeline and the \
                     group's offsets, then apply it again"
                .into(),
            stops_task: true,
        });
    }
    let (partition, other) = found.find(|(_, stamp)| !agree(first, stamp))?;
    Some(foreign(format!("{partition} was committed with `{other}`, but {first_partition} with `{first}`")))
}

/// Whether two stamps may stand on two partitions of one task.
fn agree(a: &Stamp, b: &Stamp) -> bool {
    a.generation == b.generation && a.epoch == b.epoch && (a.epoch == 0 || a.state == b.state)
}

/// Another pipeline object committed the offset.
fn not_ours(partition: &Partition, stamp: &Stamp, own: &Stamp) -> Incident {
    foreign(format!(
        "{partition}: the offset was committed by pipeline object {}, this one is {}",
        stamp.uuid, own.uuid
    ))
}

/// The text beside an offset is no stamp that this version reads.
fn unreadable(partition: &Partition, error: &StampError) -> Incident {
    let incident = foreign(format!("{partition}: the metadata of the committed offset: {error}"));
    let remedy = match error {
        StampError::Newer { .. } => {
            "nothing was read or written; run the newer version of pelton again, on every worker".into()
        }
        _ => incident.remedy,
    };
    Incident { remedy, ..incident }
}

/// What is wrong when committed offsets are below those that were heard to be committed: the queue has forgotten commits, as
/// a Kafka broker does whose group coordinator went on from an old state, or somebody set them back and left the metadata.
/// To be tried again: a queue that starts anew reads what it has stored.
pub fn went_back(heard: &Positions, seen: &[Committed]) -> Option<Incident> {
    let behind = |(partition, known): &(Partition, Offset)| {
        let found = seen.iter().find(|entry| entry.partition == *partition)?;
        (found.start < *known)
            .then(|| format!("{partition} is committed at {}, and was at {known}", found.start))
    };
    let behind: Vec<String> = heard.iter().filter_map(behind).collect();
    (!behind.is_empty()).then(|| Incident {
        code: Code::OffsetsWentBack,
        message: behind.join("; "),
        remedy: "nothing was read or written, and Pelton looks again by itself; restart the broker that looks after the \
                 group. To go on from the lower offset all the same: pause, `pelton task skip-to`, resume"
            .into(),
        stops_task: false,
    })
}

/// The offsets are not what this pipeline committed last.
pub(crate) fn foreign(message: String) -> Incident {
    Incident {
        code: Code::ForeignOffsets,
        message,
        remedy: "nothing was read or written; look at the consumer group with `kafka-consumer-groups --describe`. To \
                 start anew, delete the pipeline and the group's offsets, then apply it again"
            .into(),
        stops_task: true,
    }
}
