//! Commands whose effect the owner of the stock has lost.

use common::db::{Conn, DbError};
use common::event::EventRow;
use diesel::QueryResult;
use engine::kafka::Verdict::{Rejected, Success};
use engine::lost::{Commander, Judgement, LostCommand, State};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, deducted, refused};
use crate::inventory::tests::copy_fixture::START;
use crate::orders::OrdersCommander;

fn lost(command: &EventRow) -> LostCommand {
    LostCommand {
        event_id: command.id,
        found_by: 1,
        event_type: command.event_type.clone(),
        key: command.key.clone(),
        payload: command.payload.clone(),
        state: State::Open,
        settled_us: START,
        found_us: START,
        closed_us: None,
        closed_by: None,
        reason: None,
        sent_as: None,
    }
}

impl OrdersFixture {
    fn commander(&self) -> OrdersCommander {
        OrdersCommander::new(self.orders.outbox.clone(), self.orders.signals.clone())
    }

    async fn judged(&self, commands: &[&EventRow]) -> Vec<Judgement> {
        let (commander, lost) = (self.commander(), rows(commands));
        self.write(move |conn| Ok::<_, DbError>(commander.judge(conn, &lost)?)).await
    }

    /// Sends commands once more; returns what was appended.
    async fn again(&self, commands: &[&EventRow]) -> Vec<EventRow> {
        let (commander, lost, now) = (self.commander(), rows(commands), self.orders.env.now());
        let send = move |conn: &mut Conn| commander.send_again(conn, now, &lost, "by ada: lost");
        let ids = self.write(move |conn| Ok::<_, DbError>(send(conn)?)).await;
        self.check_sums().await;
        let all = self.commands().await;
        all.into_iter().filter(|command| ids.contains(&command.id)).collect()
    }

    /// Notes in the table that commands are lost.
    async fn note_lost(&self, commands: &[&EventRow]) {
        let rows = rows(commands);
        self.write(move |conn| Ok::<_, DbError>(insert(conn, &rows)?)).await;
    }

    async fn confirmed_order(&self, sku: &str, version: i64) -> (String, EventRow) {
        let id = self.placed(&[(sku, 3)]).await;
        let command = self.commands().await.pop().unwrap();
        self.answer(&command, Success, deducted(&[(sku, version)])).await;
        self.arrive(vec![self.state(sku, version, 7, Some(&id))]).await;
        assert_eq!(self.status(&id).await, "CONFIRMED");
        (id, command)
    }

    async fn cancelled(&self, id: &str) -> EventRow {
        self.cancel(id).await;
        let command = self.commands().await.pop().unwrap();
        let result = json!({"deducted": deducted(&[("A", 2)]), "versions": {"A": 3}});
        self.answer(&command, Success, result).await;
        assert_eq!(self.status(id).await, "CANCELLED");
        command
    }
}

fn rows(commands: &[&EventRow]) -> Vec<LostCommand> {
    commands.iter().map(|command| lost(command)).collect()
}

fn insert(conn: &mut Conn, rows: &[LostCommand]) -> QueryResult<()> {
    use diesel::RunQueryDsl;
    let table = common::schema::lost_command::table;
    common::on!(conn, c => diesel::insert_into(table).values(rows).execute(c))?;
    Ok(())
}

async fn a_lost_placing_is_pending_and_reserved_until_it_is_answered(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let (id, command) = fixture.confirmed_order("A", 2).await;
    assert_eq!(fixture.judged(&[&command]).await, [Judgement::Matters]);
    // The owner has its stock back, and sends it in a new epoch.
    fixture.arrive(vec![fixture.state("A", 3, 10, None)]).await;
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
    let again = fixture.again(&[&command]).await.remove(0);
    assert_eq!((&again.event_type, &again.key), (&command.event_type, &command.key));
    assert_eq!(again.payload, command.payload);
    assert!(again.id > command.id);
    assert_eq!(fixture.status(&id).await, "PENDING");
    assert_eq!(fixture.copy("A").await, (10, 3, 7), "nobody else is promised them");
    let step = fixture.order(&id).await["timeline"][2].clone();
    assert_eq!(
        (&step["what"], &step["note"]),
        (&json!("placing sent again"), &json!("by ada: lost"))
    );
    fixture.answer(&again, Success, deducted(&[("A", 4)])).await;
    assert_eq!(fixture.status(&id).await, "CONFIRMED");
    fixture.arrive(vec![fixture.state("A", 4, 7, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (7, 0, 7));
}

async fn a_lost_placing_may_be_refused_now(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let (id, command) = fixture.confirmed_order("A", 2).await;
    let again = fixture.again(&[&command]).await.remove(0);
    fixture.answer(&again, Rejected, refused("A")).await;
    assert_eq!(fixture.status(&id).await, "REJECTED");
    assert_eq!(fixture.copy("A").await, (7, 0, 7), "its promise is over");
}

/// The copy is not at the deduction yet: what was promised is promised once, not twice.
async fn a_promise_that_lasts_is_not_doubled(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    let command = fixture.commands().await.remove(0);
    fixture.answer(&command, Success, deducted(&[("A", 5)])).await;
    assert_eq!(fixture.copy("A").await, (10, 3, 7));
    let again = fixture.again(&[&command]).await.remove(0);
    assert_eq!(fixture.copy("A").await, (10, 3, 7));
    // The version of the lost deduction counts no more.
    fixture.arrive(vec![fixture.state("A", 5, 10, None)]).await;
    assert_eq!(fixture.copy("A").await, (10, 3, 7));
    fixture.answer(&again, Success, deducted(&[("A", 6)])).await;
    fixture.arrive(vec![fixture.state("A", 6, 7, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (7, 0, 7));
}

async fn a_cancellation_makes_a_lost_placing_good(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let (id, command) = fixture.confirmed_order("A", 2).await;
    fixture.cancel(&id).await;
    let obsolete = |status: &str| Judgement::Obsolete(format!("the order is {status}"));
    assert_eq!(fixture.judged(&[&command]).await, [obsolete("CANCELLING")]);
    let cancellation = fixture.commands().await.pop().unwrap();
    fixture.answer(&cancellation, Success, json!({"versions": {}})).await;
    assert_eq!(fixture.judged(&[&command]).await, [obsolete("CANCELLED")]);
}

async fn a_lost_cancellation_matters_unless_its_placing_is_lost(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let (id, placing) = fixture.confirmed_order("A", 2).await;
    let cancellation = fixture.cancelled(&id).await;
    assert_eq!(fixture.judged(&[&cancellation]).await, [Judgement::Matters]);
    let again = fixture.again(&[&cancellation]).await.remove(0);
    assert_eq!(again.event_type, "stockloop.order.cancelled");
    assert_eq!(fixture.status(&id).await, "CANCELLED", "it stays so");
    let result = json!({"deducted": deducted(&[("A", 2)]), "versions": {"A": 4}});
    fixture.answer(&again, Success, result).await;
    assert_eq!(fixture.status(&id).await, "CANCELLED");
    fixture.note_lost(&[&placing, &cancellation]).await;
    let judged = fixture.judged(&[&placing, &cancellation]).await;
    assert!(judged.iter().all(|one| matches!(one, Judgement::Obsolete(_))), "{judged:?}");
}

async fn a_placing_that_was_sent_again_is_there_to_be_given_back(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let (id, placing) = fixture.confirmed_order("A", 2).await;
    let again = fixture.again(&[&placing]).await.remove(0);
    let mut row = lost(&placing);
    (row.state, row.sent_as) = (State::Again, Some(again.id));
    fixture.write(move |conn| Ok::<_, DbError>(insert(conn, &[row])?)).await;
    fixture.answer(&again, Success, deducted(&[("A", 3)])).await;
    let cancellation = fixture.cancelled(&id).await;
    assert_eq!(fixture.judged(&[&cancellation]).await, [Judgement::Matters]);
    fixture.note_lost(&[&again]).await;
    let judged = fixture.judged(&[&cancellation]).await;
    assert!(matches!(judged.as_slice(), [Judgement::Obsolete(_)]), "lost again: {judged:?}");
}

async fn an_order_that_is_not_kept_is_not_sent_again(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let (_, placing) = fixture.confirmed_order("A", 2).await;
    let gone = EventRow { key: fixture.orders.env.event_id().to_string(), ..placing };
    assert_eq!(fixture.judged(&[&gone]).await, [Judgement::NotKept]);
}

async fn what_a_person_made_good_is_told_in_the_timeline(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let (id, placing) = fixture.confirmed_order("A", 2).await;
    let (commander, lost, now) = (fixture.commander(), rows(&[&placing]), fixture.orders.env.now());
    let accept = move |conn: &mut Conn| commander.accept(conn, now, &lost, "by ada: counted");
    fixture.write(move |conn| Ok::<_, DbError>(accept(conn)?)).await;
    assert_eq!(fixture.status(&id).await, "CONFIRMED");
    let step: Value = fixture.order(&id).await["timeline"][2].clone();
    assert_eq!(step["what"], "lost deduction made good by hand");
}

on_every_database!(&OrdersFixture::new =>
    a_lost_placing_is_pending_and_reserved_until_it_is_answered,
    a_lost_placing_may_be_refused_now,
    a_promise_that_lasts_is_not_doubled,
    a_cancellation_makes_a_lost_placing_good,
    a_lost_cancellation_matters_unless_its_placing_is_lost,
    a_placing_that_was_sent_again_is_there_to_be_given_back,
    an_order_that_is_not_kept_is_not_sent_again,
    what_a_person_made_good_is_told_in_the_timeline,
);
