//! Cases of the suite that the embedded broker does not do yet.

/// Test (file and function), and what is missing. Empty it.
pub const NOT_YET: &[(&str, &str)] = &[
    ("admin::a_new_topic_of_an_old_name_has_another_id", "Metadata ends at version 9, before topic ids"),
    ("admin::a_request_that_only_validates_makes_nothing", "settings of a topic are not checked"),
    ("admin::an_unknown_or_unlawful_setting_is_refused", "settings of a topic are not checked"),
    ("admin::one_setting_is_altered_and_the_others_stay", "no IncrementalAlterConfigs"),
    ("admin::settings_are_described_with_their_source", "few settings are described"),
    ("admin::settings_of_a_topic_are_altered_and_fall_back_to_defaults", "no AlterConfigs"),
    ("admin::all_records_are_deleted_up_to_the_end", "no DeleteRecords"),
    ("admin::records_after_the_end_cannot_be_deleted", "no DeleteRecords"),
    ("admin::records_before_an_offset_are_deleted", "no DeleteRecords"),
    ("admin::records_are_deleted_after_their_time", "no retention"),
    ("admin::the_oldest_records_are_deleted_beyond_the_size_of_a_topic", "no retention"),
    ("admin::a_compacted_topic_keeps_the_last_record_of_each_key", "no compaction"),
    ("offsets::an_offset_is_deleted_alone", "no OffsetDelete"),
    ("offsets::the_record_with_the_latest_time_is_found", "ListOffsets ends at version 6"),
    (
        "offsets::the_same_inside_a_compressed_batch",
        "the start of a compressed batch is found, not the record",
    ),
    ("produce::a_record_larger_than_the_topic_allows_is_refused", "max.message.bytes is not heeded"),
    (
        "robustness::a_client_without_a_name_for_itself_is_refused_the_list",
        "names of clients are not checked",
    ),
    ("transactions::offsets_of_a_member_count_when_its_transaction_commits", "groups have no members"),
    ("transactions::offsets_of_a_stale_generation_are_refused", "groups have no members"),
    (
        "transactions::offsets_of_the_group_without_a_name_are_accepted",
        "AddOffsetsToTxn refuses the empty name",
    ),
    (
        "transactions::open_transactions_are_listed_and_described",
        "no ListTransactions, no DescribeTransactions",
    ),
    ("transactions::producers_of_a_partition_are_described", "no DescribeProducers"),
];

/// Why a case is expected to fail on the embedded broker, if so. `path` starts with the crate's name.
pub fn reason(path: &str) -> Option<&'static str> {
    let case = case_of(path);
    NOT_YET.iter().find(|(name, _)| *name == case).map(|(_, reason)| *reason)
}

/// Entries that no case of the suite has.
pub fn unknown(cases: &[&[&str]]) -> Vec<&'static str> {
    let exists = |name: &str| cases.iter().flat_map(|cases| cases.iter()).any(|path| case_of(path) == name);
    NOT_YET.iter().map(|(name, _)| *name).filter(|name| !exists(name)).collect()
}

fn case_of(path: &str) -> &str {
    path.split_once("::").map_or(path, |(_, case)| case)
}
