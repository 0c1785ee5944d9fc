//! Every point once, its last write winning field by field, wherever its writes lie: in files, in memory, or in both.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill_query::QueryConfig;

use crate::model::{FIRST, Model, Point, Row, any_commits, check_queries, line};
use crate::support::Fixture;

/// What happens after a commit.
#[derive(Clone, Debug)]
enum Event {
    Nothing,
    Merge,
    Flush,
    /// Files that are cut at two times.
    FlushCut(i64, i64),
    Delete {
        first: i64,
        last: i64,
        hosts: Option<(bool, Vec<&'static str>)>,
        has_region: bool,
    },
}

fn any_event() -> impl Strategy<Value = Event> {
    let hosts = prop_oneof![Just(vec!["a"]), Just(vec!["b", "z"])];
    let hosts = prop::option::of((any::<bool>(), hosts));
    prop_oneof![
        3 => Just(Event::Nothing),
        1 => Just(Event::Merge),
        3 => Just(Event::Flush),
        2 => (0..12i64, 0..8i64).prop_map(|(first, length)| Event::FlushCut(first, first + length)),
        2 => (-2..16i64, 0..12i64, hosts, prop::bool::weighted(0.2)).prop_map(
            |(first, length, hosts, has_region)| Event::Delete {
                first,
                last: first + length,
                hosts,
                has_region,
            }
        ),
    ]
}

struct World {
    runtime: tokio::runtime::Runtime,
    fixture: tokio::sync::Mutex<(Fixture, usize)>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = QueryConfig {
        threads: 2,
        ..QueryConfig::default()
    };
    let fixture = runtime.block_on(Fixture::with(config, Vec::new()));
    World {
        runtime,
        fixture: tokio::sync::Mutex::new((fixture, 0)),
    }
});

async fn happen(fixture: &mut Fixture, table: &str, model: &mut Model, event: &Event) {
    match event {
        Event::Nothing => {}
        Event::Merge => fixture.store.settle(),
        Event::Flush => fixture.flush().await,
        Event::FlushCut(first, last) => fixture.flush_cut(&[*first, *last]).await,
        Event::Delete {
            first,
            last,
            hosts,
            has_region,
        } => {
            // Rows in memory are removed by whoever applies the delete.
            fixture.flush().await;
            let mut conditions: Vec<(&str, bool, &[&str])> = Vec::new();
            if let Some((negated, hosts)) = hosts {
                conditions.push(("host", *negated, hosts));
            }
            if *has_region {
                conditions.push(("region", false, &["x"]));
            }
            fixture.delete_in_files(table, (*first, *last), &conditions).await;
            model.delete(|point: &Point| {
                let host_matches = hosts.as_ref().is_none_or(|(negated, hosts)| {
                    point.1.is_some_and(|host| hosts.contains(&host) != *negated)
                });
                let region_matches = !has_region || point.2 == Some("x");
                (*first..=*last).contains(&point.0) && host_matches && region_matches
            });
        }
    }
}

async fn agree(history: &[(Vec<Row>, Event)], from: i64) -> Result<(), TestCaseError> {
    let mut world = WORLD.fixture.lock().await;
    let (fixture, case) = &mut *world;
    *case += 1;
    let table = format!("t{case}");
    let mut model = Model::default();
    fixture.write(&line(&table, &FIRST)).await;
    model.write(&FIRST);
    for (rows, event) in history {
        let lines: Vec<String> = rows.iter().map(|row| line(&table, row)).collect();
        fixture.write(&lines.join("\n")).await;
        for row in rows {
            model.write(row);
        }
        happen(fixture, &table, &mut model, event).await;
    }
    check_queries(fixture, &table, &model, from).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn queries_over_files_agree_with_a_plain_model(
        commits in any_commits(),
        events in prop::collection::vec(any_event(), 8),
        from in 0..16i64,
    ) {
        let history: Vec<(Vec<Row>, Event)> = commits.into_iter().zip(events).collect();
        WORLD.runtime.block_on(agree(&history, from))?;
    }
}
