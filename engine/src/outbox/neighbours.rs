//! What the instances of a service tell each other at once, beside what they find in the database anyway.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

/// Where an instance says that the others should look; cheap to clone.
///
/// Until it is told, everything is one word, however much happens; without other instances, nothing is kept.
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether others live and can be told.
    others: watch::Sender<bool>,
    untold: Notify,
}

impl Neighbours {
    /// Notes whether others live and can be told.
    pub(crate) fn set_others(&self, others: bool) {
        self.inner.others.send_if_modified(|known| std::mem::replace(known, others) != others);
    }

    /// Whether others live, now and whenever that changes.
    pub(crate) fn others(&self) -> watch::Receiver<bool> {
        self.inner.others.subscribe()
    }

    /// Tells the others that there is something for their relays: due events, or room for them.
    pub fn tell(&self) {
        if *self.inner.others.borrow() {
            self.inner.untold.notify_one();
        }
    }

    /// Waits for something to tell.
    pub(crate) async fn untold(&self) {
        self.inner.untold.notified().await;
    }
}

/// The version of [`Message`]. Fields may be added under the same one.
const VERSION: u32 = 1;

/// What goes over the wire: that something happened, and where. Whoever hears it looks into the database.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    v: u32,
    from: String,
}

/// The message of the instance `from`.
///
/// # Errors
/// When it can't be written, which would be a flaw of this program.
pub(crate) fn message(from: &str) -> serde_json::Result<String> {
    serde_json::to_string(&Message { v: VERSION, from: from.to_owned() })
}

/// Whether `message` is another instance's than `own`.
///
/// One that can't be read comes from another release, and says at least that something happened.
pub(crate) fn is_from_another(own: &str, message: &str) -> bool {
    !serde_json::from_str(message).is_ok_and(|Message { from, .. }| from == own)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether there is something to tell right now.
    async fn untold(neighbours: &Neighbours) -> bool {
        tokio::time::timeout(Duration::ZERO, neighbours.untold()).await.is_ok()
    }

    #[actix_web::test]
    async fn what_happens_until_it_is_told_is_one_message() {
        let neighbours = Neighbours::default();
        neighbours.tell();
        assert!(!untold(&neighbours).await, "there is nobody to tell");
        neighbours.set_others(true);
        (0..1_000).for_each(|_| neighbours.tell());
        assert!(untold(&neighbours).await);
        assert!(!untold(&neighbours).await, "it is told once");
    }

    #[test]
    fn a_message_is_heard_by_others_only() {
        let message = message("a").unwrap();
        assert_eq!(message, r#"{"v":1,"from":"a"}"#);
        assert!(is_from_another("b", &message));
        assert!(!is_from_another("a", &message));
        for other in [r#"{"v":1,"from":"a","more":1}"#, r#"{"v":2,"from":"a"}"#, "", "released"] {
            assert!(is_from_another("b", other), "{other}");
        }
    }
}
