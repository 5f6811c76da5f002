//! What was just done, as a code in the address and a sentence on the page: nothing of the address is shown itself.

const SENTENCES: &[(&str, &str)] = &[
    ("set-up", "You are the first admin. Add the others under Users."),
    ("retried", "The event will be sent again."),
    ("resolved", "The event is resolved; no further action is needed."),
    ("job-cancelled", "The job is cancelled. Actions already done are not undone."),
    ("verification-started", "The verification has started; its progress is shown here."),
    ("verification-cancelled", "The verification is cancelled. What it has found stays listed."),
    ("resync-cancelled", "The job is cancelled. What it has sent is not taken back."),
    ("restoring", "What the database misses is being mended; how far it is, is shown here."),
    ("lost-decided", "It is decided; what became of the command is shown in the list."),
    (
        "lost-all-decided",
        "The next 100 open commands are decided about. If some are left, decide again.",
    ),
    ("bootstrap-started", "The copy is being filled; its progress is shown here."),
    ("bootstrap-cancelled", "Filling the copy has stopped. What it has sent is not taken back."),
    ("replayed", "The message was sent to its topic again."),
    ("discarded", "The message is discarded. It is kept and can still be replayed."),
    ("paused", "The relay is paused: nothing is sent until somebody resumes it."),
    (
        "paused-but-external",
        "The relay is paused: nothing is sent again until somebody resumes it. First attempts go on: another program makes them.",
    ),
    ("resumed", "The relay sends again."),
    ("key-paused", "The key is paused: its events wait."),
    (
        "key-paused-but-external",
        "The key is paused: nothing of it is sent again. First attempts go on: another program makes them.",
    ),
    ("key-resumed", "The key's events are sent again."),
    ("consumer-registered", "The consumer is registered."),
    ("consumer-changed", "The consumer has another role now."),
    ("consumer-retired", "The consumer is retired; what waited for it alone is being settled."),
    (
        "held",
        "The key is in quarantine: its events are refused, and the other service tries them again.",
    ),
    ("released", "The key is released."),
    ("acknowledged", "The alert is acknowledged."),
    ("silenced", "The silence has started."),
    ("silence-ended", "The silence has ended. Alerts that are still open are sent now."),
    ("test-mail", "A test mail is on its way; its state is shown below."),
    ("test-call", "A test webhook call is on its way; its state is shown below."),
    ("signed-out", "You are signed out."),
    ("password", "Your password is changed. Your other sessions have ended."),
    ("user-added", "The user can sign in now."),
    ("user-changed", "The user is changed."),
    ("token-revoked", "The token is revoked and no longer accepted."),
];

/// The sentence of a code; none for one that nobody made.
pub(super) fn text(code: &str) -> Option<&'static str> {
    SENTENCES.iter().find(|(name, _)| *name == code).map(|(_, text)| *text)
}
