//! The table in `docs/stores.md` says of each store what its facts say.

use super::*;
use crate::store::etcd::EtcdStore;
use crate::store::redis::RedisStore;

const PAGE: &str = include_str!("../../../docs/stores.md");
/// The heads of the table's columns, in the order of [`stores`].
const HEADS: [&str; 2] = ["etcd", "Redis and Valkey"];

fn stores() -> [Facts; 2] {
    [EtcdStore::FACTS, RedisStore::FACTS]
}

/// All facts, each with the first cell of its row. A fact that is the same of each store needs no row.
fn rows(facts: Facts) -> [(Option<&'static str>, bool); 9] {
    let Facts {
        counts_revisions,
        sweeps_see_all,
        lists_one_moment,
        writes_per_renewal,
        events_per_renewal,
        tells_expiries,
        survives_a_crash,
        outlives_the_ttl,
        fails_over_whole,
    } = facts;
    [
        (None, counts_revisions),
        (
            Some("… but leaves it for a member that was put by hand"),
            sweeps_see_all,
        ),
        (Some("a listing is of one moment"), lists_one_moment),
        (
            Some("the steady state writes nothing"),
            writes_per_renewal == 0,
        ),
        (
            Some("the steady state is silent for those who watch"),
            events_per_renewal == 0,
        ),
        (
            Some("… and those who watch are told of it at once"),
            tells_expiries,
        ),
        (
            Some("the store crashes: the keys are there afterwards"),
            survives_a_crash,
        ),
        (
            Some("the store is down for longer than the TTL: the keys are there when it is back"),
            outlives_the_ttl,
        ),
        (Some("a failover loses nothing"), fails_over_whole),
    ]
}

/// Whether a cell says yes; a condition or a reason follows.
fn is_yes(cell: &str) -> bool {
    match cell.split([',', ':']).next() {
        Some("yes") => true,
        Some("no") => false,
        _ => panic!("`{cell}` begins with neither `yes` nor `no`"),
    }
}

fn cells(line: &str) -> Vec<&str> {
    let line = line.trim().trim_matches('|');
    line.split('|').map(str::trim).collect()
}

#[test]
fn the_docs_say_of_each_store_what_its_facts_say() {
    let chapter = PAGE.split_once("\n## What each store promises\n");
    let chapter = chapter.expect("the chapter").1;
    let (chapter, _) = chapter.split_once("\n## ").expect("the next one");
    let mut lines = chapter.lines().filter(|line| line.starts_with('|'));
    let head = cells(lines.next().expect("a table"));
    assert_eq!(head[1..], HEADS);
    let mut stated = BTreeMap::new();
    for line in lines.skip(1) {
        let cells = cells(line);
        assert_eq!(cells.len(), head.len(), "{line}");
        let answers: Vec<bool> = cells[1..].iter().map(|cell| is_yes(cell)).collect();
        stated.insert(cells[0], answers);
    }
    let facts = stores().map(rows);
    for (place, (row, _)) in facts[0].iter().enumerate() {
        let answers = facts.map(|rows| rows[place].1).to_vec();
        if let Some(row) = row {
            assert_eq!(stated.remove(row), Some(answers), "{row}");
        } else {
            assert!(
                answers.iter().all(|answer| *answer == answers[0]),
                "{place}"
            );
        }
    }
    for (row, answers) in stated {
        let is_kept = answers.iter().all(|answer| *answer);
        assert!(is_kept, "`{row}` is not kept by each store, and is no fact");
    }
}

#[test]
fn the_model_is_as_etcd() {
    assert_eq!(ModelStore::FACTS, EtcdStore::FACTS);
}
