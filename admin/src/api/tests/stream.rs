use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::test::TestRequest;
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, Is};

on_every_database!(AdminFixture::new =>
    each_new_sample_is_told,
    a_client_that_comes_back_gets_what_is_new,
    there_are_not_more_streams_than_places,
);

impl AdminFixture {
    async fn sample(&self) -> String {
        let sample = self.sampler.run_once(&self.db, &self.env).await.unwrap();
        sample.as_of.micros().to_string()
    }

    /// The ids that a stream tells while `meanwhile` runs; it ends as the service stops.
    async fn streamed(
        &self,
        last: Option<&str>,
        meanwhile: impl Future<Output = ()>,
    ) -> Vec<String> {
        let mut request = TestRequest::get().uri("/api/admin/v1/stream");
        if let Some(last) = last {
            request = request.insert_header(("last-event-id", last));
        }
        let ending = async {
            meanwhile.await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.engine.stopping.cancel();
        };
        let (answered, ()) = tokio::join!(self.call(request), ending);
        assert_eq!(answered.header(CONTENT_TYPE), "text/event-stream");
        let text = answered.body.as_str().unwrap().to_owned();
        assert!(text.starts_with("retry: "), "{text}");
        let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        ids.map(str::to_owned).collect()
    }
}

async fn each_new_sample_is_told(fixture: AdminFixture) {
    let first = fixture.sample().await;
    let (pause, mut told) = (Duration::from_millis(50), vec![first]);
    let meanwhile = async {
        for _ in 0..2 {
            tokio::time::sleep(pause).await;
            fixture.event("A", 1, Is::Pending).await;
            told.push(fixture.sample().await);
        }
    };
    let ids = fixture.streamed(None, meanwhile).await;
    assert_eq!(ids, told);
}

async fn a_client_that_comes_back_gets_what_is_new(fixture: AdminFixture) {
    let old = fixture.sample().await;
    fixture.clock.advance(Duration::from_secs(1));
    fixture.sample().await;
    fixture.clock.advance(Duration::from_secs(1));
    let newest = fixture.sample().await;
    // What lies between is superseded.
    assert_eq!(fixture.streamed(Some(&old), async {}).await, std::slice::from_ref(&newest));
    assert!(fixture.streamed(Some(&newest), async {}).await.is_empty());
    assert_eq!(fixture.streamed(Some("nonsense"), async {}).await, [newest]);
}

async fn there_are_not_more_streams_than_places(fixture: AdminFixture) {
    let mut places: Vec<_> =
        (0..64).map(|_| fixture.sampler.follow(64).expect("there is room")).collect();
    fixture.get("/stream").await.is_problem(503, "");
    places.pop();
    assert!(fixture.streamed(None, async {}).await.is_empty(), "there was no sample");
}
