//! Months that pass, and what an operator does meanwhile.

use anyhow::{Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::System;
use crate::chaos::aging::{Before, DAY};
use crate::chaos::load::{product, withdrawn};
use crate::check::Side;

const DEAD_LETTERS: &str = "/api/admin/v1/dead-letters";

impl System {
    /// Lets so many days pass at once, while no client asks for anything and nothing is on its way: what a client does not know
    /// the outcome of, it can't ask for again a month later. Returns how many those were.
    pub(super) fn let_days_pass(&mut self, runtime: &Runtime, days: u32) -> Result<u64> {
        if self.aging.is_none() {
            self.brokers.take_any_time(runtime)?;
        }
        self.rest.begin()?;
        self.drain()?;
        let (mut looks, now) = (self.look()?, self.time());
        self.aging.get_or_insert_default().look(&mut looks, now)?;
        let before = Before::look(&mut looks, now.after(DAY * days))?;
        self.processes.let_pass(DAY * days)?;
        let passed = before.wait(&mut looks)?;
        passed.met.into_iter().for_each(|(what, many)| self.tally.meet(what, many));
        for words in passed.complaints {
            self.tally.complain(format!("when {days} days had passed: {words}"));
        }
        self.rest.end();
        Ok(u64::from(days))
    }

    /// Puts so many products in that nobody else knows, and removes them.
    pub(super) fn withdraw(&mut self, runtime: &Runtime, products: u32) -> Result<u64> {
        let lines: Vec<Value> =
            (0..products).map(|number| product(withdrawn(number), 1, false)).collect();
        let body = json!({ "mode": "replace", "lines": lines });
        let answer = self.ask(runtime, Side::Product, Method::POST, "/api/v1/inventory", body)?;
        ensure!(answer["refused"] == 0, "products were refused: {answer}");
        for sku in (0..products).map(withdrawn) {
            let path = format!("/api/v1/inventory/{sku}");
            self.ask(runtime, Side::Product, Method::DELETE, &path, Value::Null)?;
        }
        Ok(u64::from(products))
    }

    /// Discards every second one of the dead letters that wait; returns how many.
    pub(super) fn discard(&mut self, runtime: &Runtime) -> Result<u64> {
        let mut discarded = 0;
        for side in Side::BOTH {
            let waiting = format!("{DEAD_LETTERS}?state=waiting&limit=1000");
            let page = self.ask(runtime, side, Method::GET, &waiting, Value::Null)?;
            let letters = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            for number in letters.iter().step_by(2).filter_map(|letter| letter["seq"].as_str()) {
                let path = format!("{DEAD_LETTERS}/{number}/discard");
                let reason = json!({ "reason": "a trial" });
                self.ask(runtime, side, Method::POST, &path, reason)?;
                discarded += 1;
            }
        }
        Ok(discarded)
    }
}
