use std::time::Duration;

use stockloop_tests::poll::eventually;

#[tokio::test]
async fn a_condition_is_asked_for_until_it_holds() {
    let mut asked = 0;
    let value = eventually("three questions", Duration::from_secs(5), async || {
        asked += 1;
        if asked == 3 { Ok("yes") } else { Err(asked) }
    })
    .await;
    assert_eq!((value, asked), ("yes", 3));
}

#[tokio::test]
#[should_panic(expected = "the moon to fall; last seen: \"still up\"")]
async fn an_overdue_condition_tells_what_was_seen_last() {
    eventually("the moon to fall", Duration::from_millis(20), async || Err::<(), _>("still up"))
        .await;
}

#[tokio::test]
#[should_panic(expected = "the last look itself did not end")]
async fn a_look_that_hangs_is_cut_off() {
    eventually("an answer", Duration::from_millis(20), async || {
        std::future::pending::<Result<(), ()>>().await
    })
    .await;
}
