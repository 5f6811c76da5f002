//! Who is asked: consumers are registered, retired and forgotten.

use super::*;

on_every_database!(OutboxFixture::new =>
    the_last_required_one_can_not_go,
    the_settings_are_registered_once,
    retired_names_leave_room_for_others,
);

async fn the_last_required_one_can_not_go(fixture: OutboxFixture) {
    fixture.register(REPORTS, Role::Watched).await;
    let refused = fixture.retire(FIRST).await.unwrap_err();
    assert!(matches!(refused, consumers::RegistryError::LastRequired(_)), "{refused}");
    fixture.retire(REPORTS).await.unwrap();
    let refused = fixture.retire(REPORTS).await.unwrap_err();
    assert!(matches!(refused, consumers::RegistryError::Retired(_)), "{refused}");
}

async fn the_settings_are_registered_once(fixture: OutboxFixture) {
    let others = BTreeMap::from([(SEARCH.to_owned(), Role::Required)]);
    let (since, now) = (fixture.env.event_id(), fixture.env.now());
    let sync = move |conn: &mut Conn| consumers::sync(conn, FIRST, &others, since, now);
    assert_eq!(fixture.change(sync.clone()).await.unwrap().len(), 1);
    assert_eq!(fixture.change(sync.clone()).await.unwrap().len(), 0);
    fixture.retire(SEARCH).await.unwrap();
    let told = fixture.change(sync).await.unwrap();
    assert!(told[0].contains("is retired"), "{told:?}");
    let bad = BTreeMap::from([("a b".to_owned(), Role::Watched)]);
    let bad = fixture.change(move |conn| consumers::sync(conn, FIRST, &bad, since, now)).await;
    assert!(matches!(bad, Err(consumers::RegistryError::BadName(_))));
}

async fn retired_names_leave_room_for_others(fixture: OutboxFixture) {
    let (since, now) = (fixture.env.event_id(), fixture.env.now());
    let register = move |conn: &mut Conn, name: &str, now| {
        let new = NewConsumer { name, role: Role::Required, since, reason: None };
        consumers::register(conn, &new, now, "anna")
    };
    let settling = fixture.change(move |conn| {
        consumers::sync(conn, FIRST, &BTreeMap::new(), since, now)?;
        for n in 0..250_u64 {
            let (name, now) = (format!("old-{n}"), now.after(Duration::from_secs(n)));
            register(conn, &name, now)?;
            consumers::retire(conn, &name, FIRST, (now, "anna", None))?;
            assert!(consumers::list(conn, FIRST)?.len() <= consumers::MAX_KNOWN, "it is bounded");
            // The first 10 are settled only at the end.
            if n >= 10 {
                consumers::save_cursor(conn, &name, None, 0)?;
            }
        }
        Ok(consumers::list(conn, FIRST)?)
    });
    let known: Vec<String> = settling.await.unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(known.len(), consumers::MAX_KNOWN);
    assert!(known.contains(&FIRST.to_owned()) && known.contains(&"old-9".to_owned()));
    assert!(!known.contains(&"old-10".to_owned()), "it was retired first");
    fixture
        .change(move |conn| {
            (1..100).try_for_each(|n| register(conn, &format!("n-{n}"), now).map(drop))
        })
        .await
        .unwrap();
    let full = fixture.change(move |conn| register(conn, "one-too-many", now)).await.unwrap_err();
    assert!(matches!(full, consumers::RegistryError::Full), "{full}");
    let full = fixture.change(move |conn| register(conn, "old-9", now)).await.unwrap_err();
    assert!(matches!(full, consumers::RegistryError::Full), "{full}");
}
