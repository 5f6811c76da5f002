use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::test::TestRequest;
use common::clock::Timestamp;
use common::on;
use common::schema::trend;
use diesel::prelude::*;
use engine::stats::{Chart, Trend, TrendOutcome};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, Is};

on_every_database!(AdminFixture::new =>
    one_instance_writes_a_row_each_ten_seconds,
    old_rows_go,
    points_tell_rates_and_latencies,
    charts_show_the_points,
    unknown_windows_and_charts_are_refused,
);

const SECOND: Duration = Duration::from_secs(1);

impl AdminFixture {
    async fn trend(&self, trend: &Trend) -> TrendOutcome {
        let sample = self.sampler.run_once(&self.db, &self.env).await.unwrap();
        trend.run_once(&self.db, &sample).await.unwrap()
    }

    async fn trend_rows(&self) -> Vec<Timestamp> {
        self.write(
            |conn| on!(conn, c => trend::table.select(trend::at_us).order(trend::at_us).load(c)),
        )
        .await
    }
}

async fn one_instance_writes_a_row_each_ten_seconds(fixture: AdminFixture) {
    let (one, other) = (Trend::default(), Trend::default());
    assert!(fixture.trend(&one).await.written);
    assert!(!fixture.trend(&other).await.written, "the other one has just done it");
    for _ in 0..30 {
        fixture.clock.advance(SECOND);
        fixture.trend(&one).await;
        fixture.trend(&other).await;
    }
    let rows = fixture.trend_rows().await;
    let apart = rows.windows(2).map(|two| two[1].since(two[0]));
    assert_eq!(apart.collect::<Vec<_>>(), [10 * SECOND; 3]);
}

async fn old_rows_go(fixture: AdminFixture) {
    let trend = Trend::default();
    fixture.trend(&trend).await;
    fixture.clock.advance(7 * 24 * 3_600 * SECOND);
    assert_eq!(fixture.trend(&trend).await, TrendOutcome { written: true, forgotten: 0 });
    fixture.clock.advance(10 * SECOND);
    assert_eq!(fixture.trend(&trend).await, TrendOutcome { written: true, forgotten: 1 });
    assert_eq!(fixture.trend_rows().await.len(), 2);
}

/// Three rows, ten seconds apart; between the first two, things happen.
async fn some_points(fixture: &AdminFixture) -> Value {
    let trend = Trend::default();
    fixture.trend(&trend).await;
    for version in 0..4 {
        fixture.event("A", version, Is::Processed).await;
    }
    fixture.event("A", 4, Is::Sent).await;
    fixture.event("A", 5, Is::Exhausted).await;
    fixture.clock.advance(4 * SECOND);
    fixture.trend(&trend).await;
    fixture.clock.advance(10 * SECOND);
    fixture.trend(&trend).await;
    fixture.get("/overview/trend?window=15m").await.body
}

async fn points_tell_rates_and_latencies(fixture: AdminFixture) {
    insta::assert_json_snapshot!("a_trend", some_points(&fixture).await);
    let hour = fixture.get("/overview/trend").await.body;
    assert_eq!(hour["window"], "1h");
    // A point for a quarter of a minute joins what falls into it.
    assert_eq!(hour["points"].as_array().unwrap().len(), 1, "{hour}");
}

async fn charts_show_the_points(fixture: AdminFixture) {
    let empty = fixture.get_text("/charts/latency.svg").await;
    assert!(empty.contains("no data yet, a point comes every 10 s"), "{empty}");
    some_points(&fixture).await;
    for chart in Chart::ALL {
        let uri = format!("/api/admin/v1/charts/{}.svg?window=15m", chart.name());
        let answered = fixture.call(TestRequest::get().uri(&uri)).await;
        assert_eq!((answered.status, answered.header(CONTENT_TYPE)), (200, "image/svg+xml"));
        let svg = answered.body.as_str().unwrap();
        assert!(svg.contains("role=\"img\"") && svg.ends_with("</svg>\n"), "{svg}");
        for inline in ["style=", "<style", "<script", "#0001", "#0000"] {
            assert!(!svg.contains(inline), "{inline} in {svg}");
        }
        insta::assert_snapshot!(format!("chart_{}", chart.name()), svg);
    }
}

async fn unknown_windows_and_charts_are_refused(fixture: AdminFixture) {
    fixture.get("/overview/trend?window=2h").await.is_problem(422, "window");
    fixture.get("/charts/latency.svg?window=2h").await.is_problem(422, "window");
    fixture.get("/charts/latency.svg?wide=1").await.is_problem(422, "wide");
    fixture.get("/charts/beauty.svg").await.is_problem(404, "");
    let none = fixture.get("/overview/trend?window=24h").await.body;
    assert_eq!(none, json!({ "window": "24h", "points": [] }));
}
