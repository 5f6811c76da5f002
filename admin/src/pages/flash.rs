//! What was just done, as a code in the address and a sentence on the page: nothing of the address is shown itself.

const SENTENCES: &[(&str, &str)] = &[
    ("set-up", "You are the first admin. Add the others under Users."),
    ("retried", "The event is sent again."),
    ("resolved", "The event is resolved: it waits for nobody any more."),
    ("job-cancelled", "The job is cancelled. What it had done stays done."),
    ("replayed", "The message was sent to its topic again."),
    ("discarded", "The message is marked as of no use. It is kept, and may still be replayed."),
    ("paused", "The relay is paused: nothing is sent until somebody resumes it."),
    ("resumed", "The relay sends again."),
    ("key-paused", "The key is paused: its events wait."),
    ("key-resumed", "The key's events are sent again."),
    (
        "held",
        "The key is in quarantine: its events are refused, and the other service tries them again.",
    ),
    ("released", "The key is released."),
    ("acknowledged", "You have taken notice of the alert."),
    ("silenced", "The silence has begun."),
    ("silence-ended", "The silence is over. What is still open is told of now."),
    ("test-mail", "A test mail is on its way; below is how far it got."),
    ("test-call", "A test call of the webhook is on its way; below is how far it got."),
    ("signed-out", "You are signed out."),
    ("password", "Your password is changed. Your other sessions have ended."),
    ("user-added", "The user can sign in now."),
    ("user-changed", "The user is changed."),
    ("token-revoked", "The token is revoked: nobody gets in with it any more."),
];

/// The sentence of a code; none for one that nobody made.
pub(super) fn text(code: &str) -> Option<&'static str> {
    SENTENCES.iter().find(|(name, _)| *name == code).map(|(_, text)| *text)
}
