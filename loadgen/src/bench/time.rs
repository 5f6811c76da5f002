//! How long a benchmark may take: rounds that would not end in time are left out, and what hangs is ended.

use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::place::remove_all_and_end;

/// The part of the time that rounds may fill: the rest is for one that takes longer than those before it, and for the end.
const FOR_ROUNDS: f64 = 0.85;

/// How long it may take to remove what a benchmark has made that is ended.
const REMOVED_IN: Duration = Duration::from_secs(60);

/// As for every failure.
const FAILED: i32 = 1;

/// The time of one benchmark; it ends with this value.
pub(super) struct Time {
    until: Instant,
    /// Its other end hears that this one is gone.
    _running: Sender<()>,
}

impl Time {
    /// From now on. The program is ended once `limit` is over, and what it has made is removed.
    pub(super) fn begin(limit: Duration) -> Self {
        Self::begin_or(limit, move || end_after(limit))
    }

    /// The same, where `end` is done once `limit` is over.
    fn begin_or(limit: Duration, end: impl FnOnce() + Send + 'static) -> Self {
        let (running, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                end();
            }
        });
        Self { until: Instant::now() + limit.mul_f64(FOR_ROUNDS), _running: running }
    }

    /// The numbers of rounds, from 0: `warm_ups`, which do not count, one that does, and as many more of those that were
    /// `asked` for as are likely to end in the first of so many equal `parts` of the time that is left.
    pub(super) fn rounds(&self, parts: usize, warm_ups: usize, asked: usize) -> Rounds {
        let now = Instant::now();
        let left = self.until.saturating_duration_since(now);
        let part = left / u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
        Rounds {
            next: 0,
            warm_ups,
            all: warm_ups + asked,
            until: now + part,
            began: None,
            longest: Duration::ZERO,
        }
    }
}

/// Ends the program, and removes what it has made, if that can be done: what hangs may be the server.
fn end_after(limit: Duration) {
    let minutes = limit.as_secs() / 60;
    eprintln!(
        "stockloop-loadgen: the benchmark had not ended after {minutes} min; let it measure less, or say --minutes"
    );
    thread::spawn(|| remove_all_and_end(FAILED));
    thread::sleep(REMOVED_IN);
    eprintln!(
        "stockloop-loadgen: its databases can't be removed; the next run on that server does it"
    );
    process::exit(FAILED)
}

/// Numbers of rounds, as long as there is time for them.
pub(super) struct Rounds {
    next: usize,
    warm_ups: usize,
    all: usize,
    until: Instant,
    /// The one that is under way.
    began: Option<Instant>,
    longest: Duration,
}

impl Rounds {
    /// The round that begins `now`, if it is likely to end in time: it may take as long as the longest so far.
    fn begin(&mut self, now: Instant) -> Option<usize> {
        if let Some(began) = self.began.take() {
            self.longest = self.longest.max(now.saturating_duration_since(began));
        }
        if self.next >= self.all {
            return None;
        }
        let counted = self.next.saturating_sub(self.warm_ups);
        if counted > 0 && now + self.longest > self.until {
            let asked = self.all - self.warm_ups;
            eprintln!(
                "stockloop-loadgen: there was time for {counted} of {asked} rounds; --minutes gives more"
            );
            self.all = self.next;
            return None;
        }
        self.began = Some(now);
        self.next += 1;
        Some(self.next - 1)
    }
}

impl Iterator for Rounds {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.begin(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// The rounds that are begun, where each takes so many seconds and there are so many for all.
    fn begun(mut rounds: Rounds, each: u64, all: u64) -> Vec<usize> {
        let mut now = Instant::now();
        rounds.until = now + Duration::from_secs(all);
        std::iter::from_fn(|| {
            let round = rounds.begin(now)?;
            now += Duration::from_secs(each);
            Some(round)
        })
        .collect()
    }

    #[test]
    fn rounds_that_would_not_end_in_time_are_left_out_but_for_one() {
        let time = Time::begin(MINUTE);
        let rounds = |warm_ups| time.rounds(1, warm_ups, 3);
        assert_eq!(begun(rounds(1), 10, 40), [0, 1, 2, 3]);
        assert_eq!(begun(rounds(1), 10, 39), [0, 1, 2]);
        assert_eq!(begun(rounds(1), 100, 10), [0, 1], "what was asked for is measured once");
        assert_eq!(begun(rounds(0), 100, 10), [0]);
        let mut over = rounds(0);
        over.until = Instant::now();
        over.longest = MINUTE;
        assert_eq!((over.next(), over.next(), over.next()), (Some(0), None, None));
    }

    #[test]
    fn what_has_not_ended_in_time_is_ended() {
        let begin = |limit| {
            let (end, ended) = mpsc::channel();
            (Time::begin_or(limit, move || _ = end.send(())), ended)
        };
        let (_time, ended) = begin(Duration::ZERO);
        assert_eq!(ended.recv_timeout(MINUTE), Ok(()));
        let (time, ended) = begin(MINUTE);
        drop(time);
        assert_eq!(ended.recv_timeout(MINUTE), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn what_is_left_is_shared_by_what_is_to_come() {
        let time = Time::begin(MINUTE * 100);
        let (all, half) = (time.rounds(1, 0, 1), time.rounds(2, 0, 1));
        let left = |rounds: &Rounds| rounds.until.saturating_duration_since(Instant::now());
        let ratio = left(&all).as_secs_f64() / left(&half).as_secs_f64();
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(left(&all) < MINUTE * 86);
    }
}
