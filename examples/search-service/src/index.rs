//! What is kept of a product: its description, and the words by which it is found.

use std::collections::BTreeSet;

use common::db::{Conn, ROWS_PER_INSERT};
use common::event::Event;
use common::inventory::{COLLECTION, InventorySnapshot};
use common::on;
use diesel::prelude::*;
use engine::copies::{Copied, CopiedState, CopiedValue};
use engine::inbox::CopyVersion;

diesel::table! {
    word (text, sku) {
        text -> Text,
        sku -> Text,
    }
}

pub(crate) struct Index;

impl Copied for Index {
    const COLLECTION: &'static str = COLLECTION;
    const FIELDS: &'static [&'static str] = &["description"];

    fn read(event: &Event) -> Result<CopiedState, String> {
        let it = InventorySnapshot::of(event).map_err(|error| error.to_string())?;
        Ok(CopiedState {
            key: event.key.clone(),
            removed: it.removed,
            version: CopyVersion { epoch: event.epoch, version: it.version },
            updated_at: it.updated_at,
            content: vec![CopiedValue::Text(it.description)],
        })
    }

    fn on_changed(conn: &mut Conn, states: &[&CopiedState]) -> QueryResult<()> {
        let keys: Vec<&str> = states.iter().map(|state| state.key.as_str()).collect();
        let old = word::table.filter(word::sku.eq_any(keys));
        on!(&mut *conn, c => diesel::delete(old).execute(c))?;
        let mut rows = Vec::new();
        for state in states.iter().filter(|state| !state.removed) {
            let words = state.content.iter().flat_map(|value| words(value.as_text()));
            rows.extend(words.map(|text| (word::text.eq(text), word::sku.eq(&state.key))));
        }
        for rows in rows.chunks(ROWS_PER_INSERT) {
            on!(&mut *conn, c => diesel::insert_into(word::table).values(rows).execute(c))?;
        }
        Ok(())
    }
}

/// The words of a text, each once, up to 64 characters of each: an index takes no longer ones.
pub(crate) fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word.chars().take(64).collect::<String>().to_lowercase()).collect()
}
